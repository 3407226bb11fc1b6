//! A port as it is written, as Docker takes it apart: `[[ADDRESS:][HOST]:]PORT[/PROTOCOL]`.

/// The parts; empty where one is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written<'t> {
    pub(super) address: &'t str,
    pub(super) host: &'t str,
    pub(super) target: &'t str,
    pub(super) protocol: &'t str,
}

/// First and last port.
pub(super) type Range = (u16, u16);

/// The last two colons separate, so that an IPv6 address may stand without brackets.
pub(super) fn split(text: &str) -> Written<'_> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, ""));
    let (before, target) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (address, host) = before.rsplit_once(':').unwrap_or(("", before));
    Written { address, host, target, protocol }
}

/// `80` or `8000-8010`.
pub(super) fn range(text: &str) -> Result<Range, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("the range of ports {text} ends before it begins"));
    }
    Ok((first, last))
}

fn port(text: &str) -> Result<u16, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text:?} is not a port"));
    }
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("the port {text} is not from 1 to 65535"))
}

/// Each port of the container with the host's ports that it may have: one, any one of a range, or any.
pub(super) fn pairs(host: Option<Range>, target: Range) -> Result<impl Iterator<Item = (Option<Range>, u16)>, String> {
    let (first, last) = target;
    let single = first == last;
    let from = match host {
        Some((from, to)) if !single && to - from != last - first => {
            let count = |first: u16, last: u16| match u32::from(last - first) + 1 {
                1 => "1 port".to_owned(),
                count => format!("{count} ports"),
            };
            let (host, target) = (count(from, to), count(first, last));
            return Err(format!("{host} of the host cannot lead to {target} of the container"));
        }
        Some((from, _)) if !single => Some(from),
        Some(_) | None => None,
    };
    let host_of = move |port: u16| from.map(|from| (from + (port - first), from + (port - first))).or(host);
    Ok((first..=last).map(move |port| (if single { host } else { host_of(port) }, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_taken_apart_as_docker_does() {
        for (text, address, host, target, protocol) in [
            ("3000", "", "", "3000", ""),
            ("8000:80", "", "8000", "80", ""),
            ("127.0.0.1:8001:81/udp", "127.0.0.1", "8001", "81", "udp"),
            ("127.0.0.1::5000", "127.0.0.1", "", "5000", ""),
            ("[::1]:80:81", "[::1]", "80", "81", ""),
            ("::1:80:81", "::1", "80", "81", ""),
            ("[::1]::81", "[::1]", "", "81", ""),
            ("9090-9091:8080-8081/TCP", "", "9090-9091", "8080-8081", "TCP"),
            (":80", "", "", "80", ""),
            ("80:", "", "80", "", ""),
            ("", "", "", "", ""),
        ] {
            assert_eq!(split(text), Written { address, host, target, protocol }, "{text}");
        }
    }

    #[test]
    fn ranges_are_within_what_there_is() {
        assert_eq!(range("80"), Ok((80, 80)));
        assert_eq!(range("1-65535"), Ok((1, 65_535)));
        assert_eq!(range("0080"), Ok((80, 80)));
        for (bad, message) in [
            ("", "\"\" is not a port"),
            ("x", "\"x\" is not a port"),
            ("+80", "\"+80\" is not a port"),
            ("80-", "\"\" is not a port"),
            ("1-2-3", "\"2-3\" is not a port"),
            ("0", "the port 0 is not from 1 to 65535"),
            ("65536", "the port 65536 is not from 1 to 65535"),
            ("99999999999999999999", "the port 99999999999999999999 is not from 1 to 65535"),
            ("81-80", "the range of ports 81-80 ends before it begins"),
        ] {
            assert_eq!(range(bad), Err(message.to_owned()), "{bad}");
        }
    }

    #[test]
    fn ranges_lead_to_each_other_one_by_one() {
        let all = |host, target| pairs(host, target).map(Iterator::collect::<Vec<_>>);
        assert_eq!(all(None, (80, 80)), Ok(vec![(None, 80)]));
        assert_eq!(all(Some((8000, 9000)), (80, 80)), Ok(vec![(Some((8000, 9000)), 80)]));
        assert_eq!(
            all(Some((65_534, 65_535)), (80, 81)),
            Ok(vec![(Some((65_534, 65_534)), 80), (Some((65_535, 65_535)), 81)])
        );
        assert_eq!(all(None, (80, 81)), Ok(vec![(None, 80), (None, 81)]));
        let unequal = "3 ports of the host cannot lead to 2 ports of the container".to_owned();
        assert_eq!(all(Some((80, 82)), (80, 81)), Err(unequal));
    }
}
