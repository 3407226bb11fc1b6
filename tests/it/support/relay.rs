//! Stands before a registry, and holds what is large back until it is told to let it through.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes of one connection that pass in any case: documents, and the beginning of a layer.
const FREE: usize = 100_000;

/// A relay on loopback; its threads end with their connections, or with the process.
pub(crate) struct Relay {
    pub(crate) address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    through: AtomicBool,
    open: AtomicUsize,
}

impl Relay {
    pub(crate) fn start(registry: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (state, registry) = (Arc::<State>::default(), registry.to_owned());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&registry) else { continue };
                let (client_too, server_too) = (client.try_clone(), server.try_clone());
                let (Ok(client_too), Ok(server_too)) = (client_too, server_too) else { continue };
                shared.open.fetch_add(1, Ordering::SeqCst);
                let state = Arc::clone(&shared);
                std::thread::spawn(move || answers(server, client, &state));
                let state = Arc::clone(&shared);
                std::thread::spawn(move || questions(client_too, server_too, &state));
            }
        });
        Self { address, state }
    }

    /// Connections whose client did not go away yet.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Holds nothing back any more.
    pub(crate) fn let_through(&self) {
        self.state.through.store(true, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.let_through();
    }
}

fn questions(mut client: TcpStream, mut server: TcpStream, state: &State) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(got @ 1..) = client.read(&mut buffer) {
        if server.write_all(&buffer[..got]).is_err() {
            break;
        }
    }
    state.open.fetch_sub(1, Ordering::SeqCst);
    // Gone already, where it fails.
    let _ = server.shutdown(Shutdown::Both);
}

fn answers(mut server: TcpStream, mut client: TcpStream, state: &State) {
    let (mut buffer, mut passed) = (vec![0; 16 << 10], 0);
    while let Ok(got @ 1..) = server.read(&mut buffer) {
        while passed > FREE && !state.through.load(Ordering::SeqCst) {
            if state.open.load(Ordering::SeqCst) == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        passed += got;
        if client.write_all(&buffer[..got]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Write);
}
