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
        Self::hearing(move |_, stream| act(stream))
    }

    /// The same for those who want to know what came.
    pub fn hearing(act: impl Fn(&[u8], &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (asked, act) = (Arc::new(AtomicUsize::new(0)), Arc::new(act));
        let counter = Arc::clone(&asked);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (act, counter) = (Arc::clone(&act), Arc::clone(&counter));
                thread::spawn(move || converse(&mut stream, &counter, &*act));
            }
        });
        Self { port, asked }
    }

    /// How many requests came.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn converse(stream: &mut TcpStream, counter: &AtomicUsize, act: &dyn Fn(&[u8], &mut TcpStream)) {
    let mut piece = [0; 65536];
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        counter.fetch_add(1, Ordering::SeqCst);
        act(&piece[..n], stream);
        if !KEPT.take() {
            return;
        }
    }
}

thread_local!(static KEPT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });

/// Called in an `act`: the connection stays open for another request.
pub fn keep() {
    KEPT.set(true);
}

/// Writes `text`, to whom may be gone.
pub fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}
