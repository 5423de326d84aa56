//! A name server (RFC 1035) whose records a test changes while it runs.

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use simple_dns::rdata::{A, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// What a name has.
#[derive(Clone, Debug)]
pub enum Record {
    /// An address.
    Address(Ipv4Addr),
    /// A server of a service: priority, weight, port, name.
    Service(u16, u16, u16, &'static str),
    /// The server fails.
    Failure,
}

/// The name server.
pub struct Dns {
    /// Its UDP port on 127.0.0.1.
    pub port: u16,
    records: Arc<Mutex<HashMap<String, Vec<Record>>>>,
}

impl Dns {
    /// A name server that knows nothing.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("an address").port();
        let records: Arc<Mutex<HashMap<String, Vec<Record>>>> = Arc::default();
        let known = Arc::clone(&records);
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if let Some(answer) = answer(&buffer[..length], &known.lock().expect("no panic before")) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { port, records }
    }

    /// Lets `name` have these records and no others.
    pub fn set(&self, name: &str, records: Vec<Record>) {
        self.records.lock().expect("no panic before").insert(name.to_owned(), records);
    }

    /// Lets `name` have these addresses.
    pub fn addresses(&self, name: &str, last_bytes: &[u8]) {
        self.set(name, last_bytes.iter().map(|last| Record::Address(Ipv4Addr::new(127, 0, 0, *last))).collect());
    }
}

fn answer(query: &[u8], known: &HashMap<String, Vec<Record>>) -> Option<Vec<u8>> {
    let query = Packet::parse(query).ok()?;
    let question = query.questions.first()?.clone();
    let name = question.qname.clone();
    let found = known.get(&name.to_string());
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::RESPONSE);
    for record in found.into_iter().flatten() {
        let data = match record {
            Record::Failure => {
                *reply.rcode_mut() = RCODE::ServerFailure;
                continue;
            }
            Record::Address(ip) if question.qtype == QTYPE::TYPE(TYPE::A) => RData::A(A { address: (*ip).into() }),
            Record::Service(priority, weight, port, target) if question.qtype == QTYPE::TYPE(TYPE::SRV) => {
                let target = Name::new_unchecked(target);
                RData::SRV(SRV { priority: *priority, weight: *weight, port: *port, target })
            }
            _ => continue,
        };
        reply.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, 1, data));
    }
    if found.is_none() {
        *reply.rcode_mut() = RCODE::NameError;
    }
    reply.questions.push(question);
    reply.build_bytes_vec().ok()
}
