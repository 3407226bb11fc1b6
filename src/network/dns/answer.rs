//! What a container's message is answered. Pure.

use std::net::IpAddr;

use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable as _, BinEncoder};

use super::wire::{NoQuestion, Question, Transport, code};
use super::zone::{Found, Zone};
use crate::model::ContainerId;

/// How long others may keep what we say, in seconds. The shortest that still spares who asks for each request (nginx, a JVM): a
/// replica that died is out of their memory before most would have noticed that it does not answer.
const TTL: u32 = 5;

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Silent,
    /// Send this.
    Reply(Vec<u8>),
    /// Ask others.
    Forward(Question),
}

/// What is to be done with this container's message.
pub(super) fn step(zone: &Zone, asking: &ContainerId, message: &[u8], transport: Transport) -> Step {
    let question = match Question::parse(message) {
        Ok(question) => question,
        Err(NoQuestion::Silent) => return Step::Silent,
        Err(NoQuestion::Reply(reply)) => return Step::Reply(reply),
    };
    let found = question.text().and_then(|name| zone.look_up(asking, &name, question.kind()));
    if let Some(found) = found {
        let reply = encode(&question, &found, transport);
        return Step::Reply(reply.unwrap_or_else(|| question.refusal(code::SERVER)));
    }
    // One that is not in the zone (it has just started, or is ending) is not known to be allowed to ask outside.
    let allowed = zone.member(asking).is_some_and(|member| !member.internal_only);
    if !allowed || !question.wants_recursion() || question.is_meta() {
        return Step::Reply(question.refusal(code::REFUSED));
    }
    Step::Forward(question)
}

fn encode(question: &Question, found: &[Found], transport: Transport) -> Option<Vec<u8>> {
    let name = Name::from_labels(question.labels()).ok()?;
    let mut message = Message::response(question.id, OpCode::Query);
    message.metadata.authoritative = true;
    message.metadata.recursion_desired = question.wants_recursion();
    message.metadata.recursion_available = true;
    message.metadata.checking_disabled = question.checking_disabled();
    for one in found {
        let data = match one {
            Found::Address(address) => address_data(*address),
            Found::Name(target) => RData::PTR(PTR(host(target)?)),
            Found::Service { port, target, addresses } => {
                let target = host(target)?;
                for address in addresses {
                    let record = Record::from_rdata(target.clone(), TTL, address_data(*address));
                    if !message.additionals.contains(&record) {
                        message.add_additional(record);
                    }
                }
                RData::SRV(SRV::new(0, 0, *port, target))
            }
        };
        message.add_answer(Record::from_rdata(name.clone(), TTL, data));
    }
    message.add_query(Query::query(name, RecordType::from(question.kind)));
    let opt = if question.edns.is_some() { 11 } else { 0 };
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(u16::try_from(question.room(transport) - opt).ok()?);
    message.emit(&mut encoder).ok()?;
    // Of the record that did not fit a part is still there.
    encoder.trim();
    question.finish(&mut bytes, code::NO_ERROR);
    Some(bytes)
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn host(name: &str) -> Option<Name> {
    Name::from_labels(name.split('.').map(str::as_bytes)).ok()
}

#[cfg(test)]
mod tests;
