//! What the options of the driver `local` ask for: `type`, `o`, `device`, as mount(2) takes them. Pure.

use std::collections::BTreeMap;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub device: String,
    pub kind: String,
    /// `MS_…`.
    pub flags: u64,
    /// How mounts travel: set afterwards.
    pub propagation: u64,
    /// What the file system itself understands.
    pub data: Vec<String>,
}

const PROPAGATION: u64 = libc::MS_SHARED | libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_UNBINDABLE;

/// Word, flag, and whether the word sets it.
const WORDS: &[(&str, u64, bool)] = &[
    ("defaults", 0, true),
    ("ro", libc::MS_RDONLY, true),
    ("rw", libc::MS_RDONLY, false),
    ("nosuid", libc::MS_NOSUID, true),
    ("suid", libc::MS_NOSUID, false),
    ("nodev", libc::MS_NODEV, true),
    ("dev", libc::MS_NODEV, false),
    ("noexec", libc::MS_NOEXEC, true),
    ("exec", libc::MS_NOEXEC, false),
    ("sync", libc::MS_SYNCHRONOUS, true),
    ("async", libc::MS_SYNCHRONOUS, false),
    ("dirsync", libc::MS_DIRSYNC, true),
    ("mand", libc::MS_MANDLOCK, true),
    ("nomand", libc::MS_MANDLOCK, false),
    ("noatime", libc::MS_NOATIME, true),
    ("atime", libc::MS_NOATIME, false),
    ("nodiratime", libc::MS_NODIRATIME, true),
    ("diratime", libc::MS_NODIRATIME, false),
    ("relatime", libc::MS_RELATIME, true),
    ("norelatime", libc::MS_RELATIME, false),
    ("strictatime", libc::MS_STRICTATIME, true),
    ("nostrictatime", libc::MS_STRICTATIME, false),
    ("bind", libc::MS_BIND, true),
    ("rbind", libc::MS_BIND | libc::MS_REC, true),
    // Words of /etc/fstab that the kernel does not know.
    ("auto", 0, true),
    ("noauto", 0, true),
    ("nofail", 0, true),
    ("_netdev", 0, true),
];

const TRAVEL: &[(&str, u64)] = &[
    ("private", libc::MS_PRIVATE),
    ("rprivate", libc::MS_PRIVATE | libc::MS_REC),
    ("shared", libc::MS_SHARED),
    ("rshared", libc::MS_SHARED | libc::MS_REC),
    ("slave", libc::MS_SLAVE),
    ("rslave", libc::MS_SLAVE | libc::MS_REC),
    ("unbindable", libc::MS_UNBINDABLE),
    ("runbindable", libc::MS_UNBINDABLE | libc::MS_REC),
];

/// Reads the options. None: the volume is a folder.
pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Option<Asked>, String> {
    if options.is_empty() {
        return Ok(None);
    }
    for key in options.keys() {
        match key.as_str() {
            "type" | "o" | "device" => {}
            "size" => {
                return Err(
                    "a limit by the option \"size\" is not supported; write type: tmpfs, device: tmpfs and o: size=…, \
                            or put the data directory on a file system with quotas"
                        .to_owned(),
                );
            }
            _ => return Err(format!("invalid option: {key:?}; the driver local knows type, o and device")),
        }
    }
    let given = |key: &str| match options.get(key).map(|value| value.trim()) {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        Some(_) | None => Err(format!("missing required option: {key:?}; type, device and o belong together")),
    };
    let (device, kind) = (given("device")?, given("type")?);
    if [&device, &kind].iter().chain(options.get("o").iter()).any(|text| text.contains('\0')) {
        return Err("an option holds a NUL".to_owned());
    }
    let mut asked = Asked { device, kind, flags: 0, propagation: 0, data: Vec::new() };
    let o = options.get("o").map(String::as_str).unwrap_or_default();
    for word in o.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        take(&mut asked, word)?;
    }
    if asked.flags & libc::MS_BIND != 0 && !asked.device.starts_with('/') {
        return Err(format!("the device {:?} of a bind is not an absolute path", asked.device));
    }
    Ok(Some(asked))
}

fn take(asked: &mut Asked, word: &str) -> Result<(), String> {
    if let Some((_, flag, set)) = WORDS.iter().find(|(name, ..)| *name == word) {
        if *set { asked.flags |= flag } else { asked.flags &= !flag }
    } else if let Some((_, how)) = TRAVEL.iter().find(|(name, _)| *name == word) {
        asked.propagation = *how;
    } else if matches!(word, "remount" | "move") {
        return Err(format!("a volume cannot be mounted with {word:?}"));
    } else {
        asked.data.push(word.to_owned());
    }
    Ok(())
}

impl Asked {
    /// Whether a folder of the host is seen.
    pub(super) const fn is_bind(&self) -> bool {
        self.flags & libc::MS_BIND != 0
    }

    /// Flags that a bind takes in a second step only.
    pub(super) fn again(&self) -> Option<u64> {
        let second = self.flags & !(libc::MS_BIND | libc::MS_REC) & !PROPAGATION;
        (self.is_bind() && second != 0).then_some(second | libc::MS_BIND | libc::MS_REMOUNT)
    }

    /// The server of a file system that has one.
    pub(super) fn server(&self) -> Option<&str> {
        match self.kind.as_str() {
            "nfs" | "nfs4" => self.address().or_else(|| {
                let (host, path) = self.device.rsplit_once(":/").map(|(host, path)| (host, Some(path)))?;
                (path.is_some() && !host.is_empty()).then(|| host.trim_start_matches('[').trim_end_matches(']'))
            }),
            "cifs" | "smb3" => self.address().or_else(|| {
                let rest = self.device.strip_prefix("cifs:").unwrap_or(&self.device).strip_prefix("//")?;
                rest.split('/').next().filter(|host| !host.is_empty())
            }),
            _ => None,
        }
    }

    fn address(&self) -> Option<&str> {
        self.data.iter().find_map(|word| word.strip_prefix("addr=").or_else(|| word.strip_prefix("ip=")))
    }

    /// The same with the server's address, which the kernel does not look up.
    pub(super) fn at(mut self, address: &str) -> Self {
        match self.data.iter_mut().find(|word| word.starts_with("addr=") || word.starts_with("ip=")) {
            Some(word) => *word = format!("addr={address}"),
            None => self.data.push(format!("addr={address}")),
        }
        self
    }

    /// What is waited for, in words.
    pub(super) fn what(&self) -> String {
        let Self { device, kind, .. } = self;
        match (kind.as_str(), self.server()) {
            ("nfs" | "nfs4", Some(server)) => format!("the nfs server {server}"),
            (_, Some(server)) => format!("the {kind} server {server}"),
            (_, None) if self.is_bind() => format!("the folder {device}"),
            (_, None) => format!("the {kind} file system on {device}"),
        }
    }
}

/// Options in words: `type=nfs, device=:/data`, `no options`.
pub(super) fn words(options: &BTreeMap<String, String>) -> String {
    if options.is_empty() {
        return "no options".to_owned();
    }
    let words: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("the options {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Option<Asked>, String> {
        read(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn options_become_flags_and_data() {
        assert_eq!(of(&[]), Ok(None));
        let tmpfs =
            of(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=5,nosuid,ro,rw")]).unwrap().unwrap();
        assert_eq!((tmpfs.flags, tmpfs.data.join(",").as_str()), (libc::MS_NOSUID, "size=1m,uid=5"));
        let bind = of(&[("type", "none"), ("device", "/srv"), ("o", "rbind,ro,rslave")]).unwrap().unwrap();
        assert!(bind.is_bind());
        assert_eq!(bind.again(), Some(libc::MS_RDONLY | libc::MS_BIND | libc::MS_REMOUNT));
        assert_eq!(bind.propagation, libc::MS_SLAVE | libc::MS_REC);
        let nfs = of(&[("type", "nfs"), ("device", ":/x"), ("o", "addr=files,rw,nfsvers=4")]).unwrap().unwrap();
        assert_eq!(nfs.server(), Some("files"));
        assert_eq!(nfs.at("10.0.0.9").data.join(","), "addr=10.0.0.9,nfsvers=4");
        let named = of(&[("type", "nfs4"), ("device", "files:/x")]).unwrap().unwrap();
        assert_eq!(named.at("10.0.0.9").data.join(","), "addr=10.0.0.9");
        let cifs = of(&[("type", "cifs"), ("device", "//box/share"), ("o", "username=a")]).unwrap().unwrap();
        assert_eq!(cifs.what(), "the cifs server box");
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        for (pairs, why) in [
            (&[("typ", "nfs")][..], "invalid option: \"typ\""),
            (&[("type", "nfs")], "missing required option: \"device\""),
            (&[("o", "bind"), ("device", "/x")], "missing required option: \"type\""),
            (&[("o", "bind"), ("device", "x"), ("type", "none")], "not an absolute path"),
            (&[("o", "remount"), ("device", "/x"), ("type", "none")], "remount"),
            (&[("size", "1g")], "size"),
        ] {
            assert!(of(pairs).unwrap_err().contains(why), "{pairs:?}: {:?}", of(pairs));
        }
    }
}
