//! The program `nft`: puts our tables in force, and says whether they still are.
//!
//! Tables that are not ours are read, to say what keeps packets from us; they are never touched.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::ruleset::{Families, Table, Transaction, removal};

mod barred;
mod generation;

pub use barred::{Barrier, Owner};

/// So long one call may take.
const LIMIT: Duration = Duration::from_secs(10);
/// So often rules are applied again where others change the packet filter at the same moment.
const ATTEMPTS: usize = 3;
/// Where it is looked for beside `PATH`, which a service may not have in full.
const FOLDERS: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];

/// Why the packet filter does not have our rules.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// No program.
    #[error("the program nft is missing, which sets the rules of networks; install it (package nftables)")]
    Missing,
    /// A program without JSON.
    #[error("{} was built without JSON; install nftables from the distribution's package, or a build with --with-json", .0.display())]
    NoJson(PathBuf),
    /// A kernel without nf_tables, or without a part of it.
    #[error(
        "this kernel has no nf_tables, which separates networks and publishes ports; boot one with CONFIG_NF_TABLES, NF_TABLES_INET, NFT_NAT, NFT_MASQ, NFT_CT and NFT_FIB_INET (or load their modules): {0}"
    )]
    NoKernel(String),
    /// Not allowed.
    #[error("the packet filter may not be changed: run as root, or with CAP_NET_ADMIN: {0}")]
    Denied(String),
    /// It could not be called.
    #[error("calling {}", .program.display())]
    Call {
        /// What was called.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It did not end.
    #[error("nft did not answer within {} seconds; the rules are as they were", LIMIT.as_secs())]
    Slow,
    /// It refused.
    #[error("nft refused the rules; those of before are in force: {0}")]
    Refused(String),
    /// It said what we do not understand.
    #[error("nft's answer is not what it documents: {0}")]
    Answer(String),
}

/// How the packet filter differs from what was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// Nothing was applied yet by this process.
    Unknown,
    /// Somebody changed rules just as ours were put in force: perhaps ours too.
    Unsure,
    /// This table is gone.
    Gone(Table),
    /// This table was changed.
    Changed(Table),
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => write!(f, "the rules were not set yet"),
            Self::Unsure => write!(f, "another program changed its rules just as ours were set; they are set again"),
            Self::Gone(Table { family, name }) => write!(f, "the table {family} {name} is gone"),
            Self::Changed(Table { family, name }) => {
                write!(f, "the table {family} {name} was changed by somebody else")
            }
        }
    }
}

/// The program, and what it was last told.
#[derive(Debug)]
pub struct Nft {
    program: PathBuf,
    families: Families,
    /// With a digest of its listing, once that was made.
    applied: Vec<(Table, Option<u64>)>,
    generation: Option<u32>,
}

impl Nft {
    /// Looks for the program, and asks the kernel what it can. In the network namespace of the calling thread.
    pub async fn find() -> Result<Self, NftError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
        let program = folders.map(|folder| folder.join("nft")).find(|program| executable(program));
        Self::with(program.ok_or(NftError::Missing)?).await
    }

    /// With this program.
    pub async fn with(program: PathBuf) -> Result<Self, NftError> {
        let ipv6 = Path::new("/proc/sys/net/ipv6").exists();
        let mut nft =
            Self { program, families: Families { ipv6, bridge: true }, applied: Vec::new(), generation: None };
        let family = if ipv6 { "inet" } else { "ip" };
        match nft.run(&["-c", "-j", "-f", "-"], Some(&probe(family))).await {
            Err(NftError::Refused(said)) if said.contains("JSON support not compiled") => {
                return Err(NftError::NoJson(nft.program));
            }
            Err(NftError::Refused(said)) => return Err(NftError::NoKernel(said)),
            done => done?,
        };
        match nft.run(&["-c", "-j", "-f", "-"], Some(&probe("bridge"))).await {
            Err(NftError::Refused(_)) => nft.families.bridge = false,
            done => drop(done?),
        }
        Ok(nft)
    }

    /// Counts the changes of anybody's rules in the calling thread's network namespace; none: a kernel that does not tell.
    #[must_use]
    pub fn generation() -> Option<u32> {
        generation::now().ok()
    }

    /// What the kernel's packet filter knows.
    #[must_use]
    pub const fn families(&self) -> Families {
        self.families
    }

    /// Puts the tables in force, all or none.
    pub async fn apply(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        // Forgotten first: if this is given up half way, nobody knows what is in force.
        self.applied.clear();
        self.generation = None;
        for _ in 0..ATTEMPTS {
            let before = generation::now().ok();
            self.run(&["-j", "-f", "-"], Some(&transaction.json)).await?;
            let after = generation::now().ok();
            self.applied = transaction.tables.iter().map(|table| (table.clone(), None)).collect();
            if before.is_none_or(|before| after == Some(before.wrapping_add(1))) {
                self.generation = after;
                return Ok(());
            }
            // Somebody else changed something meanwhile; if it was in our tables, what is in force is not what was applied.
        }
        Ok(())
    }

    /// Takes our tables away, of whichever family.
    pub async fn remove(&mut self, name: &str) -> Result<(), NftError> {
        self.applied.clear();
        let first = if self.families.ipv6 { "inet" } else { "ip" };
        let families = [first].into_iter().chain(self.families.bridge.then_some("bridge"));
        let tables: Vec<Table> = families.map(|family| Table { family, name: name.to_owned() }).collect();
        self.run(&["-j", "-f", "-"], Some(&removal(&tables))).await.map(drop)
    }

    /// How what is in force differs from what was applied; none: not at all. As long as nobody changed anything in the packet filter
    /// this is one question to the kernel. What was applied is listed by the first check after it, so that it costs nobody who waits.
    pub async fn check(&mut self) -> Result<Option<Drift>, NftError> {
        if self.applied.is_empty() {
            return Ok(Some(Drift::Unknown));
        }
        let generation = generation::now().ok();
        let undisturbed = generation.is_some() && generation == self.generation;
        if undisturbed && self.applied.iter().all(|(_, listing)| listing.is_some()) {
            return Ok(None);
        }
        let mut listings = Vec::with_capacity(self.applied.len());
        for (table, applied) in &self.applied {
            let Some(listing) = self.listing(table).await? else { return Ok(Some(Drift::Gone(table.clone()))) };
            match applied {
                Some(applied) if *applied != listing => return Ok(Some(Drift::Changed(table.clone()))),
                Some(_) => {}
                // Nobody knows whether it is what was applied.
                None if generation.is_some() && !undisturbed => return Ok(Some(Drift::Unsure)),
                None => {}
            }
            listings.push(Some(listing));
        }
        // What somebody changed while it was listed is seen the next time, by the generation.
        if generation::now().ok() == generation {
            for ((_, known), listing) in self.applied.iter_mut().zip(listings) {
                *known = listing;
            }
            self.generation = generation;
        }
        Ok(None)
    }

    /// What drops packets of these bridges that our rules let through. Rules of `iptables-legacy` are not seen.
    pub async fn blocked_by(&self, bridges: &[String]) -> Result<Option<Barrier>, NftError> {
        let rules = self.run(&["-j", "list", "ruleset"], None).await?;
        Ok(barred::barrier(&parse(&rules)?, &self.applied.iter().map(|(table, _)| table).collect::<Vec<_>>(), bridges))
    }

    /// A digest of what is in the table; none: there is no such table.
    async fn listing(&self, table: &Table) -> Result<Option<u64>, NftError> {
        match self.run(&["-j", "list", "table", table.family, &table.name], None).await {
            Err(NftError::Refused(said)) if said.contains("No such file or directory") => Ok(None),
            Err(error) => Err(error),
            Ok(text) => {
                let mut listing = parse(&text)?;
                normalise(&mut listing);
                Ok(Some(digest(&listing.to_string())))
            }
        }
    }

    async fn run(&self, args: &[&str], input: Option<&Value>) -> Result<Vec<u8>, NftError> {
        let call = |source| NftError::Call { program: self.program.clone(), source };
        let output = tokio::time::timeout(LIMIT, self.call(args, input)).await.map_err(|_| NftError::Slow)?;
        let output = output.map_err(call)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = words(&output);
        Err(if said.contains("Operation not permitted") { NftError::Denied(said) } else { NftError::Refused(said) })
    }

    /// Killed where it is given up.
    async fn call(&self, args: &[&str], input: Option<&Value>) -> io::Result<Output> {
        let mut command = Command::new(&self.program);
        let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        command.args(args).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.env("LC_ALL", "C").current_dir("/").kill_on_drop(true).spawn()?;
        let stdin = child.stdin.take();
        let write = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // It may have ended with an error before it read everything; then that error counts.
                let _ = stdin.write_all(input.to_string().as_bytes()).await;
            }
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        output
    }
}

fn executable(program: &Path) -> bool {
    rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok() && program.is_file()
}

/// What our rules are made of, for a test that changes nothing.
fn probe(family: &str) -> Value {
    let table = "longshore_probe";
    let mut commands = vec![json!({ "add": { "table": { "family": family, "name": table } } })];
    let mut chain = |name: &str, kind: &str, hook: &str, rule: Value| {
        commands.push(json!({ "add": { "chain": { "family": family, "table": table, "name": name, "type": kind, "hook": hook, "prio": 0, "policy": "accept" } } }));
        commands.push(json!({ "add": { "rule": { "family": family, "table": table, "chain": name, "expr": rule } } }));
    };
    if family == "bridge" {
        chain("a", "filter", "prerouting", json!([{ "drop": null }]));
    } else {
        let local = json!({ "match": { "op": "==", "left": { "fib": { "result": "type", "flags": ["daddr"] } }, "right": "local" } });
        let known = json!({ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": ["established", "related"] } });
        let tcp = json!({ "match": { "op": "==", "left": { "meta": { "key": "l4proto" } }, "right": 6 } });
        chain("a", "filter", "forward", json!([known, { "drop": null }]));
        chain("b", "nat", "prerouting", json!([tcp, local, { "dnat": { "family": "ip", "addr": "192.0.2.1" } }]));
        chain("c", "nat", "postrouting", json!([{ "masquerade": null }]));
    }
    json!({ "nftables": commands })
}

fn parse(text: &[u8]) -> Result<Value, NftError> {
    serde_json::from_slice(text).map_err(|error| NftError::Answer(error.to_string()))
}

/// What it said, in one line.
fn words(output: &Output) -> String {
    let text =
        String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr }).into_owned();
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('^')).collect();
    let mut text = lines.iter().take(4).copied().collect::<Vec<_>>().join("; ");
    if text.is_empty() {
        text = output.status.to_string();
    }
    text.chars().take(600).collect()
}

/// Takes out what changes by itself, and gives sets an order.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for key in ["handle", "metainfo", "packets", "bytes", "index"] {
                object.shift_remove(key);
            }
            for (key, value) in object.iter_mut() {
                normalise(value);
                if let ("elem" | "set", Value::Array(elements)) = (key.as_str(), value) {
                    elements.sort_by_cached_key(Value::to_string);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(normalise),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn digest(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
