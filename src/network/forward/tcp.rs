//! Connections.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::Carried;

/// So long a container may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// No more connections are carried at once: who comes then waits in the kernel.
const MOST: usize = 4096;
/// So long is waited where a connection cannot be taken, for want of descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// For ever, while it is its turn.
pub(super) async fn carry(listener: TcpListener, carried: Carried, mut turn: watch::Receiver<bool>) {
    let carried = Rc::new(carried);
    let free = Arc::new(Semaphore::new(MOST));
    loop {
        // It is never closed.
        let Ok(one) = Arc::clone(&free).acquire_owned().await else { return };
        if turn.wait_for(|mine| *mine).await.is_err() {
            return;
        }
        let accepted = tokio::select! {
            // What was not taken waits in the kernel.
            accepted = listener.accept() => accepted,
            _ = turn.changed() => continue,
        };
        match accepted {
            Ok((client, _)) => {
                let carried = Rc::clone(&carried);
                tokio::task::spawn_local(async move {
                    connection(client, carried).await;
                    drop(one);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Until both sides have said all. One that has ended is not read any more, the other may go on; each waits for the other to read.
async fn connection(mut client: TcpStream, carried: Rc<Carried>) -> Option<()> {
    let target = carried.target(client.peer_addr().ok()?.ip())?;
    match tokio::time::timeout(CONNECT, TcpStream::connect(target)).await {
        Ok(Ok(mut container)) => {
            let _ = client.set_nodelay(true);
            let _ = container.set_nodelay(true);
            copy_bidirectional(&mut client, &mut container).await.ok()?;
        }
        // As near to a refusal as one gets after the connection was taken.
        Ok(Err(_)) | Err(_) => client.set_zero_linger().ok()?,
    }
    Some(())
}
