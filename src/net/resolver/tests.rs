//! Tests of the resolver against a server on the loopback interface.
use super::*;
use simple_dns::ResourceRecord;
use simple_dns::rdata::{A, AAAA, CNAME};
use tokio::net::TcpListener;

/// Answers by the first label of the name.
fn reply(query: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let query = Packet::parse(query).unwrap();
    let question = query.questions[0].clone();
    let name = question.qname.to_string();
    let mut out = Packet::new_reply(query.id());
    let v4 = question.qtype == QTYPE::TYPE(TYPE::A);
    let address = |n: u32| if v4 { RData::A(A { address: n }) } else { RData::AAAA(AAAA { address: n.into() }) };
    let records = match name.split('.').next().unwrap() {
        "both" => vec![address(1), address(2)],
        "four" if v4 => vec![address(4)],
        "big" if tcp => vec![address(5)],
        "alias" => vec![RData::CNAME(CNAME(Name::new_unchecked("four.test")))],
        "loop" => vec![RData::CNAME(CNAME(Name::new_unchecked("loop.test")))],
        "missing" => {
            *out.rcode_mut() = RCODE::NameError;
            vec![]
        }
        "broken" => {
            *out.rcode_mut() = RCODE::ServerFailure;
            vec![]
        }
        "silent" => return None,
        "forged" => {
            out.set_id(query.id().wrapping_add(1));
            vec![address(6)]
        }
        _ => vec![],
    };
    if name.starts_with("big") && !tcp {
        out.set_flags(PacketFlag::TRUNCATION);
    }
    let record = |rdata| ResourceRecord::new(question.qname.clone(), CLASS::IN, 60, rdata);
    out.answers.extend(records.into_iter().map(record));
    out.questions.push(question.clone());
    out.build_bytes_vec().ok()
}

/// A server's address and how many questions it got.
async fn serve() -> (SocketAddr, Arc<AtomicUsize>) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            counter.fetch_add(1, Ordering::Relaxed);
            if let Some(reply) = reply(&buffer[..length], false) {
                udp.send_to(&reply, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut query = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut query).await.unwrap();
            let reply = reply(&query, true).unwrap();
            stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    (address, count)
}

fn settings(server: SocketAddr) -> Settings {
    Settings { servers: vec![server], valid: None, ipv4: true, ipv6: true, timeout: Duration::from_millis(300) }
}

#[tokio::test]
async fn resolves() {
    let (server, count) = serve().await;
    let resolver = Resolver::new(settings(server));
    let table = [
        ("both.test", "0.0.0.1 0.0.0.2 ::1 ::2"),
        ("Both.Test.", "0.0.0.1 0.0.0.2 ::1 ::2"),
        ("four.test", "0.0.0.4"),
        ("alias.test", "0.0.0.4"),
        ("big.test", "0.0.0.5 ::5"),
        ("loop.test", "3: Host not found"),
        ("empty.test", "3: Host not found"),
        ("missing.test", "3: Host not found"),
        ("broken.test", "2: Server failure"),
        ("silent.test", "110: Operation timed out"),
        ("forged.test", "110: Operation timed out"),
        ("a..b", "3: Host not found"),
        ("", "3: Host not found"),
    ];
    for (name, want) in table {
        let got = match resolver.resolve(name).await {
            Ok(list) => {
                // Kept addresses begin anywhere.
                let mut list: Vec<String> = list.iter().map(ToString::to_string).collect();
                list.sort();
                list.join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got, want, "{name}");
    }
    let asked = count.load(Ordering::Relaxed);
    let (a, b) = tokio::join!(resolver.resolve("both.test"), resolver.resolve("missing.test"));
    assert!(a.is_ok() && b.is_err());
    assert_eq!(count.load(Ordering::Relaxed), asked + 2, "answers are kept, errors are not");
}

#[tokio::test]
async fn shares_questions_and_forgets() {
    let (server, count) = serve().await;
    let resolver = Resolver::new(Settings { valid: Some(Duration::ZERO), ipv6: false, ..settings(server) });
    let (a, b) = tokio::join!(resolver.resolve("both.test"), resolver.resolve("both.test"));
    assert!(a.is_ok() && a == b);
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert!(resolver.resolve("both.test").await.is_ok());
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn asks_the_next_server() {
    let (server, _) = serve().await;
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let resolver = Resolver::new(Settings { servers: vec![dead, server], ..settings(server) });
    assert!(resolver.resolve("both.test").await.is_ok());
}
