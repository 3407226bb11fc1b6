//! What a container uses, taken together from the files of cgroupfs. Pure.
//!
//! Both versions fill the same numbers: each file has its own name, and says by it what its text means.

/// What a container uses. What the machine does not tell is not there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stats {
    /// How long its main process has been there, in microseconds.
    pub uptime_us: u64,
    /// CPU time.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Processes and threads.
    pub pids: Option<Pids>,
    /// Block devices, all of them together.
    pub block: Option<Block>,
    /// The network, where it has one of its own.
    pub network: Option<Network>,
    /// How long it waited for want of something (cgroup v2 only).
    pub pressure: Option<Pressure>,
}

/// CPU time, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cpu {
    /// In all.
    pub usage_ns: u64,
    /// In programs.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Periods in which a quota was in force.
    pub periods: u64,
    /// Periods in which it was used up.
    pub throttled_periods: u64,
    /// For how long it had to wait for the next period.
    pub throttled_ns: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// All that is charged to it.
    pub charged: u64,
    /// Files that could be given up at once.
    pub inactive_file: u64,
    /// Most of what may be charged to it.
    pub limit: Option<u64>,
    /// What was swapped out.
    pub swap: u64,
    /// How many processes the kernel killed for want of memory.
    pub oom_kills: u64,
}

impl Memory {
    /// As Docker counts: without what could be given up at once.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.charged.saturating_sub(self.inactive_file)
    }
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pids {
    /// Now, zombies included.
    pub current: u64,
    /// At most.
    pub limit: Option<u64>,
}

/// Block devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Block {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

/// All interfaces but loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Network {
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
}

/// Waiting, by what was missing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressure {
    /// CPU time.
    pub cpu: Stall,
    /// Memory.
    pub memory: Stall,
    /// Block devices.
    pub io: Stall,
}

/// How much of the time something waited.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stall {
    /// While some of it waited.
    pub some: Share,
    /// While all of it waited.
    pub full: Share,
}

/// A part of the time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Share {
    /// Per cent of the last ten seconds.
    pub avg10: f64,
    /// Per cent of the last minute.
    pub avg60: f64,
    /// In all, in microseconds.
    pub total_us: u64,
}

/// Numbers from 2^62 on are how v1 writes "no limit".
const UNLIMITED: u64 = 1 << 62;

impl Stats {
    /// Takes in one file, named as cgroupfs names it. A file that is not known, or says nothing, changes nothing.
    pub fn take(&mut self, file: &str, text: &str) {
        match file {
            "cpuacct.usage" => set(number(text), &mut self.cpu().usage_ns),
            "cpuacct.usage_user" => set(number(text), &mut self.cpu().user_ns),
            "cpuacct.usage_sys" => set(number(text), &mut self.cpu().system_ns),
            "cpu.stat" => self.cpu_stat(text),
            "memory.usage_in_bytes" | "memory.current" => set(number(text), &mut self.memory().charged),
            "memory.limit_in_bytes" | "memory.max" => self.memory().limit = number(text).filter(|n| *n < UNLIMITED),
            "memory.swap.current" => set(number(text), &mut self.memory().swap),
            "memory.stat" => self.memory_stat(text),
            "memory.oom_control" | "memory.events" => {
                set(keyed(text, "oom_kill"), &mut self.memory().oom_kills);
            }
            "pids.current" => set(number(text), &mut self.pids().current),
            "pids.max" => self.pids().limit = number(text),
            "blkio.throttle.io_service_bytes_recursive" | "blkio.throttle.io_service_bytes" => {
                let (read, written) = by_operation(text);
                let block = self.block();
                (block.read_bytes, block.written_bytes) = (read, written);
            }
            "blkio.throttle.io_serviced_recursive" | "blkio.throttle.io_serviced" => {
                let (read, written) = by_operation(text);
                let block = self.block();
                (block.reads, block.writes) = (read, written);
            }
            "io.stat" => self.io_stat(text),
            "cpu.pressure" => self.pressure().cpu = stall(text),
            "memory.pressure" => self.pressure().memory = stall(text),
            "io.pressure" => self.pressure().io = stall(text),
            "net/dev" => self.network = Some(network(text)),
            _ => {}
        }
    }

    fn cpu(&mut self) -> &mut Cpu {
        self.cpu.get_or_insert_default()
    }
    fn memory(&mut self) -> &mut Memory {
        self.memory.get_or_insert_default()
    }
    fn pids(&mut self) -> &mut Pids {
        self.pids.get_or_insert_default()
    }
    fn block(&mut self) -> &mut Block {
        self.block.get_or_insert_default()
    }
    fn pressure(&mut self) -> &mut Pressure {
        self.pressure.get_or_insert_default()
    }

    /// v1 counts nanoseconds and tells only of quotas here; v2 counts microseconds.
    fn cpu_stat(&mut self, text: &str) {
        let cpu = self.cpu();
        for (key, value) in pairs(text) {
            match key {
                "usage_usec" => cpu.usage_ns = value.saturating_mul(1000),
                "user_usec" => cpu.user_ns = value.saturating_mul(1000),
                "system_usec" => cpu.system_ns = value.saturating_mul(1000),
                "throttled_usec" => cpu.throttled_ns = value.saturating_mul(1000),
                "throttled_time" => cpu.throttled_ns = value,
                "nr_periods" => cpu.periods = value,
                "nr_throttled" => cpu.throttled_periods = value,
                _ => {}
            }
        }
    }

    /// On v1 what is below counts only in the keys with `total_`, which come after those without; v2 has only those without,
    /// and they count it.
    fn memory_stat(&mut self, text: &str) {
        let memory = self.memory();
        for (key, value) in pairs(text) {
            match key {
                "inactive_file" | "total_inactive_file" => memory.inactive_file = value,
                "swap" | "total_swap" => memory.swap = value,
                _ => {}
            }
        }
    }

    /// `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N …`, a line for each device.
    fn io_stat(&mut self, text: &str) {
        let block = self.block();
        *block = Block::default();
        for (key, value) in text.split_whitespace().filter_map(|field| field.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => block.read_bytes += value,
                "wbytes" => block.written_bytes += value,
                "rios" => block.reads += value,
                "wios" => block.writes += value,
                _ => {}
            }
        }
    }
}

fn set(value: Option<u64>, place: &mut u64) {
    if let Some(value) = value {
        *place = value;
    }
}

/// `max` is none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.parse().ok()?))
    })
}

fn keyed(text: &str, wanted: &str) -> Option<u64> {
    pairs(text).find(|(key, _)| *key == wanted).map(|(_, value)| value)
}

/// `MAJOR:MINOR Read N`, `MAJOR:MINOR Write N`, other operations, and `Total N`.
fn by_operation(text: &str) -> (u64, u64) {
    let (mut read, mut written) = (0, 0);
    for line in text.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(operation), Some(Ok(value))) = (fields.next(), fields.next().map(str::parse::<u64>)) else {
            continue;
        };
        match operation {
            "Read" => read += value,
            "Write" => written += value,
            _ => {}
        }
    }
    (read, written)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
fn stall(text: &str) -> Stall {
    let mut stall = Stall::default();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let share = match fields.next() {
            Some("some") => &mut stall.some,
            Some("full") => &mut stall.full,
            _ => continue,
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            match key {
                "avg10" => share.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => share.avg60 = value.parse().unwrap_or(0.0),
                "total" => share.total_us = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    stall
}

/// `NAME: bytes packets errs drop fifo frame compressed multicast bytes packets …`, below two lines of headings.
fn network(text: &str) -> Network {
    let mut all = Network::default();
    for (name, fields) in text.lines().filter_map(|line| line.split_once(':')) {
        if name.trim() == "lo" {
            continue;
        }
        let mut fields = fields.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
        all.received_bytes += fields.next().unwrap_or(0);
        all.received_packets += fields.next().unwrap_or(0);
        all.sent_bytes += fields.nth(6).unwrap_or(0);
        all.sent_packets += fields.next().unwrap_or(0);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(files: &[(&str, &str)]) -> Stats {
        let mut stats = Stats::default();
        files.iter().for_each(|(file, text)| stats.take(file, text));
        stats
    }

    #[test]
    fn version_one_is_read() {
        let stats = taken(&[
            ("cpuacct.usage", "12345678901\n"),
            ("cpuacct.usage_user", "12000000000\n"),
            ("cpuacct.usage_sys", "345678901\n"),
            ("cpu.stat", "nr_periods 40\nnr_throttled 39\nthrottled_time 2912345678\nnr_bursts 0\nburst_time 0\n"),
            ("memory.usage_in_bytes", "50331648\n"),
            ("memory.limit_in_bytes", "67108864\n"),
            ("memory.stat", "swap 1\ninactive_file 2\ntotal_swap 4096\ntotal_inactive_file 8192\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            ("pids.current", "7\n"),
            ("pids.max", "4096\n"),
            (
                "blkio.throttle.io_service_bytes_recursive",
                "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 1\n254:0 Discard 9\n254:0 Total 12288\n7:0 Read 1\nTotal 12289\n",
            ),
            ("blkio.throttle.io_serviced_recursive", "254:0 Read 1\n254:0 Write 2\nTotal 3\n"),
            (
                "net/dev",
                "Inter-|   Receive  |  Transmit\n face |bytes    packets\n    lo:   99       9    0    0    0     0          0         0       99       9    0    0    0     0       0          0\n  eth0: 1000      10    1    0    0     0          0         0      500       5    0    0    0     0       0          0\n",
            ),
            ("something.else", "1"),
        ]);
        let cpu = Cpu {
            usage_ns: 12_345_678_901,
            user_ns: 12_000_000_000,
            system_ns: 345_678_901,
            periods: 40,
            throttled_periods: 39,
            throttled_ns: 2_912_345_678,
        };
        let memory =
            Memory { charged: 50_331_648, inactive_file: 8192, limit: Some(67_108_864), swap: 4096, oom_kills: 3 };
        assert_eq!((stats.cpu, stats.memory), (Some(cpu), Some(memory)));
        assert_eq!(memory.used(), 50_331_648 - 8192);
        assert_eq!(stats.pids, Some(Pids { current: 7, limit: Some(4096) }));
        assert_eq!(stats.block, Some(Block { read_bytes: 4097, written_bytes: 8192, reads: 1, writes: 2 }));
        let network = Network { received_bytes: 1000, sent_bytes: 500, received_packets: 10, sent_packets: 5 };
        assert_eq!((stats.network, stats.pressure), (Some(network), None));
    }

    #[test]
    fn version_two_is_read() {
        let stats = taken(&[
            (
                "cpu.stat",
                "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnice_usec 0\nnr_periods 2\nnr_throttled 1\nthrottled_usec 70\n",
            ),
            ("memory.current", "1048576\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "0\n"),
            ("memory.stat", "anon 4096\nfile 8192\ninactive_file 2097152\n"),
            ("memory.events", "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n"),
            ("pids.current", "1\n"),
            ("pids.max", "max\n"),
            (
                "io.stat",
                "254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n253:0 \n8:0 rbytes=1 wbytes=2 rios=3 wios=4\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=99\n",
            ),
            ("memory.pressure", ""),
        ]);
        let cpu = stats.cpu.unwrap();
        assert_eq!(
            (cpu.usage_ns, cpu.user_ns, cpu.system_ns, cpu.throttled_ns),
            (5_000_000, 3_000_000, 2_000_000, 70_000)
        );
        let memory = stats.memory.unwrap();
        assert_eq!((memory.limit, memory.oom_kills), (None, 1));
        assert_eq!(memory.used(), 0, "a moment apart, more may be inactive than is charged");
        assert_eq!(stats.pids, Some(Pids { current: 1, limit: None }));
        assert_eq!(stats.block, Some(Block { read_bytes: 4097, written_bytes: 2, reads: 4, writes: 4 }));
        let some = Share { avg10: 1.5, avg60: 0.25, total_us: 12_345 };
        let full = Share { avg10: 0.5, avg60: 0.0, total_us: 99 };
        assert_eq!(stats.pressure, Some(Pressure { cpu: Stall { some, full }, ..Pressure::default() }));
    }

    #[test]
    fn nonsense_changes_nothing() {
        for file in ["cpuacct.usage", "memory.stat", "io.stat", "cpu.pressure", "net/dev", "blkio.throttle.io_serviced"]
        {
            for text in ["", "\n", "x", "a b c\n", "Read", "1:1 Read", "some", "=\n:\n", "99999999999999999999999 9"] {
                taken(&[(file, text)]);
            }
        }
        assert_eq!(taken(&[("memory.limit_in_bytes", "9223372036854771712")]).memory.unwrap().limit, None);
    }
}
