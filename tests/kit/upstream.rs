//! Upstream servers that do as they are told, well or badly. No page of nginx's manual; they speak what a test wants.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// An upstream that tells how often it was asked.
pub struct Upstream {
    /// Where it listens.
    pub port: u16,
    asked: Arc<AtomicUsize>,
}

impl Upstream {
    /// Does `act` with every connection once something came on it.
    pub fn start(act: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (asked, act) = (Arc::new(AtomicUsize::new(0)), Arc::new(act));
        let counter = Arc::clone(&asked);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (act, counter) = (Arc::clone(&act), Arc::clone(&counter));
                thread::spawn(move || {
                    let mut piece = [0; 65536];
                    if stream.read(&mut piece).is_ok_and(|n| n > 0) {
                        counter.fetch_add(1, Ordering::SeqCst);
                        act(&mut stream);
                    }
                });
            }
        });
        Self { port, asked }
    }

    /// How many connections asked something.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Writes `text`, to whom may be gone.
pub fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}
