//! A profile: what is answered to which call. The common form of Docker's own and of a file's.

/// What a container may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// The answer to what is not named.
    pub(super) otherwise: Action,
    /// Calls of other architectures end the process.
    pub(super) arches: Vec<Arch>,
    /// What is named. A call without a test counts more than those with; of those the first that fits.
    pub(super) calls: Vec<Call>,
}

/// Some calls with one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) names: Vec<String>,
    pub(super) action: Action,
    /// All of them must hold.
    pub(super) tests: Vec<Test>,
}

/// What is answered, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    Allow,
    Log,
    Trace(u16),
    Errno(u16),
    Trap,
    KillThread,
    KillProcess,
}

impl Action {
    pub(super) const REFUSE: Self = Self::Errno(1);
    pub(super) const UNKNOWN: Self = Self::Errno(38);

    /// The value that a program returns for it.
    pub(super) const fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Log => 0x7ffc_0000,
            Self::Trace(data) => 0x7ff0_0000 | data as u32,
            Self::Errno(number) => 0x0005_0000 | number as u32,
            Self::Trap => 0x0003_0000,
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
        }
    }
    /// As a runtime's configuration has it, with its number.
    pub(super) const fn name(self) -> (&'static str, Option<u16>) {
        match self {
            Self::Allow => ("SCMP_ACT_ALLOW", None),
            Self::Log => ("SCMP_ACT_LOG", None),
            Self::Trace(data) => ("SCMP_ACT_TRACE", Some(data)),
            Self::Errno(number) => ("SCMP_ACT_ERRNO", Some(number)),
            Self::Trap => ("SCMP_ACT_TRAP", None),
            Self::KillThread => ("SCMP_ACT_KILL_THREAD", None),
            Self::KillProcess => ("SCMP_ACT_KILL_PROCESS", None),
        }
    }
}

/// An architecture whose numbers are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
}

impl Arch {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
        }
    }
    /// This machine's own, and those that it runs beside it.
    pub(super) const fn machine(aarch64: bool) -> &'static [Self] {
        if aarch64 { &[Self::Aarch64] } else { &[Self::X86_64, Self::X86, Self::X32] }
    }
}

/// A test of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) argument: u8,
    /// Whether only the lower 32 bits count.
    pub(super) half: bool,
    pub(super) is: Is,
}

/// What the argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Equal(u64),
    NotEqual(u64),
    Below(u64),
    AtMost(u64),
    Above(u64),
    AtLeast(u64),
    Masked { mask: u64, value: u64 },
}

impl Is {
    /// As a runtime's configuration has it: operator, first and second value.
    pub(super) const fn written(self) -> (&'static str, u64, u64) {
        match self {
            Self::Equal(v) => ("SCMP_CMP_EQ", v, 0),
            Self::NotEqual(v) => ("SCMP_CMP_NE", v, 0),
            Self::Below(v) => ("SCMP_CMP_LT", v, 0),
            Self::AtMost(v) => ("SCMP_CMP_LE", v, 0),
            Self::Above(v) => ("SCMP_CMP_GT", v, 0),
            Self::AtLeast(v) => ("SCMP_CMP_GE", v, 0),
            Self::Masked { mask, value } => ("SCMP_CMP_MASKED_EQ", mask, value),
        }
    }
    pub(super) fn read(operator: &str, value: u64, second: u64) -> Option<Self> {
        Some(match operator {
            "SCMP_CMP_EQ" => Self::Equal(value),
            "SCMP_CMP_NE" => Self::NotEqual(value),
            "SCMP_CMP_LT" => Self::Below(value),
            "SCMP_CMP_LE" => Self::AtMost(value),
            "SCMP_CMP_GT" => Self::Above(value),
            "SCMP_CMP_GE" => Self::AtLeast(value),
            "SCMP_CMP_MASKED_EQ" => Self::Masked { mask: value, value: second },
            _ => return None,
        })
    }
}
