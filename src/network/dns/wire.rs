//! Messages as they are on the wire: questions that containers ask, and answers of others that are passed on. Pure.
//!
//! A pointer in a name ends it here and is never followed, so no name can lead in a circle.

use super::zone::Kind;

/// What we take in one datagram (the size that no path cuts), told to who says its own.
pub(super) const SIZE: u16 = 1232;
/// What fits for who says nothing.
const PLAIN_SIZE: usize = 512;
/// The most that is sent in one datagram, whatever the other says.
const MOST: u16 = 4096;
const HEADER: usize = 12;
const OPT: u16 = 41;
const SOA: u16 = 6;
const IN: u16 = 1;
const QR: u16 = 0x8000;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
const RA: u16 = 0x0080;
const CD: u16 = 0x0010;
const AD: u16 = 0x0020;
const DO: u32 = 0x8000;

/// The codes of answers.
pub(super) mod code {
    pub(in super::super) const NO_ERROR: u16 = 0;
    pub(in super::super) const FORMAT: u16 = 1;
    pub(in super::super) const SERVER: u16 = 2;
    pub(in super::super) const NO_SUCH_NAME: u16 = 3;
    pub(in super::super) const NOT_IMPLEMENTED: u16 = 4;
    pub(in super::super) const REFUSED: u16 = 5;
    pub(in super::super) const BAD_VERSION: u16 = 16;
}

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) id: u16,
    /// RD, AD and CD as asked.
    flags: u16,
    /// The name as it was asked, on the wire.
    pub(super) name: Vec<u8>,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) edns: Option<Edns>,
}

/// What an OPT record of a question says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    size: u16,
    dnssec: bool,
    version: u8,
}

/// Why a message is no question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoQuestion {
    /// It is not answered: an answer, or too short to say whose it is.
    Silent,
    /// It is answered so.
    Reply(Vec<u8>),
}

impl Question {
    /// Reads a question.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NoQuestion> {
        let [id, flags, questions, answers, authorities, additionals] = header(bytes).ok_or(NoQuestion::Silent)?;
        if flags & QR != 0 {
            return Err(NoQuestion::Silent);
        }
        let refuse = |code| NoQuestion::Reply(bare(id, flags, code));
        if flags >> 11 & 15 != 0 {
            return Err(refuse(code::NOT_IMPLEMENTED));
        }
        if questions != 1 || answers != 0 || authorities != 0 {
            return Err(refuse(code::FORMAT));
        }
        let read = || {
            let end = plain_name(bytes, HEADER)?;
            let (kind, class) = (u16_at(bytes, end)?, u16_at(bytes, end + 2)?);
            let (mut at, mut edns) = (end + 4, None);
            for _ in 0..additionals {
                let record = Record::read(bytes, at)?;
                if record.kind == OPT {
                    if edns.is_some() || bytes[at] != 0 {
                        return None;
                    }
                    let [_, version, _, _] = record.ttl.to_be_bytes();
                    edns = Some(Edns { size: record.class, dnssec: record.ttl & DO != 0, version });
                }
                at = record.end;
            }
            let name = bytes.get(HEADER..end)?.to_vec();
            Some(Self { id, flags: flags & (RD | AD | CD), name, kind, class, edns })
        };
        let question = read().ok_or_else(|| refuse(code::FORMAT))?;
        if question.edns.is_some_and(|edns| edns.version != 0) {
            return Err(NoQuestion::Reply(question.refusal(code::BAD_VERSION)));
        }
        if question.class != IN {
            return Err(NoQuestion::Reply(question.refusal(code::REFUSED)));
        }
        Ok(question)
    }
    /// What it asks for.
    pub(super) fn kind(&self) -> Kind {
        match self.kind {
            1 => Kind::A,
            28 => Kind::Aaaa,
            255 => Kind::Any,
            12 => Kind::Ptr,
            33 => Kind::Srv,
            _ => Kind::Other,
        }
    }
    /// The name in lower case, with dots between its parts; none for one that cannot be written so.
    pub(super) fn text(&self) -> Option<String> {
        let mut text = String::with_capacity(self.name.len());
        for label in self.labels() {
            if !text.is_empty() {
                text.push('.');
            }
            for byte in label {
                if !byte.is_ascii_graphic() || *byte == b'.' {
                    return None;
                }
                text.push(char::from(byte.to_ascii_lowercase()));
            }
        }
        Some(text)
    }
    /// The parts of the name as they were asked.
    pub(super) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.name.as_slice();
        std::iter::from_fn(move || {
            let (len, after) = rest.split_first().filter(|(len, _)| **len != 0)?;
            let (label, after) = after.split_at_checked(usize::from(*len))?;
            rest = after;
            Some(label)
        })
    }
    pub(super) fn wants_recursion(&self) -> bool {
        self.flags & RD != 0
    }
    /// Whether it asks for more than one answer, or for what is between two neighbours only (RFC 6895, 3.1: but for ANY).
    pub(super) fn is_meta(&self) -> bool {
        self.kind == OPT || (128..255).contains(&self.kind)
    }
    pub(super) fn checking_disabled(&self) -> bool {
        self.flags & CD != 0
    }
    /// AD and CD: what they say makes another answer.
    pub(super) fn flags(&self) -> u16 {
        self.flags & (AD | CD)
    }
    pub(super) fn wants_dnssec(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec)
    }
    /// How long an answer may be, its OPT record included.
    pub(super) fn room(&self, transport: Transport) -> usize {
        match (transport, self.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => PLAIN_SIZE,
            (Transport::Udp, Some(edns)) => usize::from(edns.size.min(MOST)).max(PLAIN_SIZE),
        }
    }
    /// The question for another server.
    pub(super) fn asking(&self, id: u16) -> Vec<u8> {
        let mut bytes = self.head(id, self.flags | RD, u16::from(self.edns.is_some()));
        self.opt(&mut bytes, 0);
        bytes
    }
    /// An answer without records.
    pub(super) fn refusal(&self, code: u16) -> Vec<u8> {
        let mut bytes = self.head(self.id, QR | RA | self.flags & (RD | CD) | code & 15, 0);
        self.finish(&mut bytes, code);
        bytes
    }
    /// Puts the OPT record at the end of an answer, where the question has one.
    pub(super) fn finish(&self, answer: &mut Vec<u8>, code: u16) {
        if self.edns.is_some() && answer.len() >= HEADER {
            let count = u16::from_be_bytes([answer[10], answer[11]]) + 1;
            answer[10..12].copy_from_slice(&count.to_be_bytes());
            self.opt(answer, code);
        }
    }
    fn opt(&self, bytes: &mut Vec<u8>, code: u16) {
        if let Some(edns) = self.edns {
            bytes.push(0);
            bytes.extend(OPT.to_be_bytes());
            bytes.extend(SIZE.to_be_bytes());
            let ttl = u32::from(code >> 4) << 24 | if edns.dnssec { DO } else { 0 };
            bytes.extend(ttl.to_be_bytes());
            bytes.extend([0; 2]);
        }
    }
    fn head(&self, id: u16, flags: u16, additionals: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.name.len() + 15);
        for number in [id, flags, 1, 0, 0, additionals] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(&self.name);
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(self.class.to_be_bytes());
        bytes
    }
    /// An answer of another server as an answer to this question: its id, name and flags, so much older, as long as fits.
    pub(super) fn passed_on(&self, answer: &Answer, age: u32, transport: Transport) -> Vec<u8> {
        let mut bytes = answer.bytes.clone();
        let flags = u16::from_be_bytes([bytes[2], bytes[3]]) & !(RD | CD) | RA | self.flags & (RD | CD);
        bytes[..2].copy_from_slice(&self.id.to_be_bytes());
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[HEADER..HEADER + self.name.len()].copy_from_slice(&self.name);
        for record in &answer.records {
            let left = record.ttl.saturating_sub(age);
            bytes[record.ttl_at..record.ttl_at + 4].copy_from_slice(&left.to_be_bytes());
        }
        let opt = if self.edns.is_some() { 11 } else { 0 };
        if bytes.len() + opt > self.room(transport) {
            answer.cut(&mut bytes, self.room(transport) - opt);
        }
        self.finish(&mut bytes, answer.code);
        bytes
    }
}

/// An answer of another server, without its OPT record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    bytes: Vec<u8>,
    /// Its code, the OPT record's part included.
    pub(super) code: u16,
    records: Vec<Record>,
    /// How many of the records are answers, and how many authorities.
    counts: [usize; 2],
}

impl Answer {
    /// Reads an answer to this question that was asked with this id. None: it is not one, or it is malformed.
    pub(super) fn parse(mut bytes: Vec<u8>, id: u16, question: &Question) -> Option<Self> {
        let [got, flags, questions, answers, authorities, additionals] = header(&bytes)?;
        let end = plain_name(&bytes, HEADER)?;
        let same = got == id
            && flags & QR != 0
            && flags >> 11 & 15 == 0
            && questions == 1
            && bytes.get(HEADER..end)?.eq_ignore_ascii_case(&question.name)
            && (u16_at(&bytes, end)?, u16_at(&bytes, end + 2)?) == (question.kind, question.class);
        if !same {
            return None;
        }
        let counts = [usize::from(answers), usize::from(authorities)];
        let all = counts[0] + counts[1] + usize::from(additionals);
        let (mut at, mut records, mut code) = (end + 4, Vec::new(), flags & 15);
        for index in 0..all {
            let record = Record::read(&bytes, at)?;
            let next = record.end;
            if record.kind == OPT {
                let [high, ..] = record.ttl.to_be_bytes();
                code |= u16::from(high) << 4;
                // What follows may point to before it only; it is last in practice. A message that is not so is not taken.
                if index + 1 != all {
                    return None;
                }
                bytes.truncate(at);
                bytes[10..12].copy_from_slice(&(additionals - 1).to_be_bytes());
                break;
            }
            records.push(record);
            at = next;
        }
        bytes.truncate(at);
        Some(Self { bytes, code, records, counts })
    }
    /// Whether it is not whole.
    pub(super) fn truncated(&self) -> bool {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]]) & TC != 0
    }
    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
    /// For how many seconds it holds; none: it is not to be kept.
    pub(super) fn ttl(&self) -> Option<u32> {
        if self.truncated() || !matches!(self.code, code::NO_ERROR | code::NO_SUCH_NAME) {
            return None;
        }
        let [answers, authorities] = self.counts;
        if answers > 0 && self.code == code::NO_ERROR {
            return self.records.iter().map(|record| record.ttl).min();
        }
        let soa = self.records.get(answers..answers + authorities)?.iter().find(|record| record.kind == SOA)?;
        let least = self.bytes.get(soa.end - 4..soa.end)?;
        let least = u32::from_be_bytes([least[0], least[1], least[2], least[3]]);
        self.records.iter().map(|record| record.ttl).min().map(|ttl| ttl.min(least))
    }
    /// As many whole records as fit, and the mark that some are missing.
    fn cut(&self, bytes: &mut Vec<u8>, room: usize) {
        let mut end = self.records.first().map_or(self.bytes.len(), |record| record.start);
        let mut kept = 0;
        for record in self.records.iter().take(self.counts[0]).take_while(|record| record.end <= room) {
            (end, kept) = (record.end, kept + 1);
        }
        bytes.truncate(end);
        bytes[2] |= (TC >> 8) as u8;
        bytes[6..8].copy_from_slice(&u16::try_from(kept).unwrap_or(u16::MAX).to_be_bytes());
        bytes[8..12].fill(0);
    }
}

/// Where a record is, and what of it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    start: usize,
    end: usize,
    kind: u16,
    class: u16,
    ttl: u32,
    ttl_at: usize,
}

impl Record {
    fn read(bytes: &[u8], start: usize) -> Option<Self> {
        let at = any_name(bytes, start)?;
        let (kind, class) = (u16_at(bytes, at)?, u16_at(bytes, at + 2)?);
        let ttl = u32::from(u16_at(bytes, at + 4)?) << 16 | u32::from(u16_at(bytes, at + 6)?);
        // RFC 2181, 8: one with the highest bit set is zero.
        let ttl = if kind != OPT && ttl > i32::MAX.cast_unsigned() { 0 } else { ttl };
        let end = at + 10 + usize::from(u16_at(bytes, at + 8)?);
        (end <= bytes.len()).then_some(Self { start, end, kind, class, ttl, ttl_at: at + 4 })
    }
}

/// A header with nothing else, for a message of which nothing else is known.
fn bare(id: u16, flags: u16, code: u16) -> Vec<u8> {
    let flags = QR | RA | flags & (15 << 11 | RD) | code;
    [id, flags, 0, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

fn header(bytes: &[u8]) -> Option<[u16; 6]> {
    let mut numbers = [0; 6];
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = u16_at(bytes, index * 2)?;
    }
    Some(numbers)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The end of a name that has no pointer: before a question there is nothing to point to.
fn plain_name(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let len = usize::from(*bytes.get(at)?);
        at += 1 + len;
        if len > 63 || at - start > 255 {
            return None;
        }
        if len == 0 {
            return Some(at);
        }
    }
}

/// The end of a name; a pointer is its end.
fn any_name(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let len = usize::from(*bytes.get(at)?);
        match len {
            0 => return Some(at + 1),
            1..=63 => at += 1 + len,
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests;
