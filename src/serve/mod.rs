//! Connections and the life of a request. Every worker thread runs its own, with a current-thread runtime.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::http::Client;
use crate::net::counts::Open;
use crate::net::timer;
use crate::table::Table;
use crate::upstream::pool;

pub mod accept;
pub mod answer;
pub mod build;
pub mod connection;
pub mod errors;
pub mod head;
pub mod http2;
pub mod phases;
pub mod preface;
pub mod runner;
pub mod secure;
pub mod tunnel;

/// Idle connections that end at once where there are too many.
const CROWD: u32 = 32;

/// What the connections of one thread share.
pub struct Worker {
    table: RefCell<Arc<Table>>,
    stopping: Cell<bool>,
    /// How many idle connections shall end to make room for new ones.
    crowd: Cell<u32>,
    connections: Cell<u64>,
    /// The open connections, where `worker_shutdown_timeout` bounds them; and some that have ended.
    clients: RefCell<Vec<Weak<Client>>>,
    /// Wakes whoever waits for the last connection.
    pub idle: Notify,
}

impl Worker {
    /// A worker that serves `table`.
    pub fn new(table: Arc<Table>) -> Rc<Self> {
        Rc::new(Self {
            table: RefCell::new(table),
            stopping: Cell::new(false),
            crowd: Cell::new(0),
            connections: Cell::new(0),
            clients: RefCell::default(),
            idle: Notify::new(),
        })
    }

    /// The table that new requests see.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.borrow())
    }

    /// Lets new requests see `table`; those under way finish on theirs. HTTP/2 connections end with theirs.
    pub fn reload(&self, table: Arc<Table>) {
        Open::limit(table.process.worker_connections);
        pool::keep(table.upstreams.all().map(|peers| peers.id));
        *self.table.borrow_mut() = table;
        timer::wake_all();
    }

    /// Ends idle connections, and the others after their request.
    pub fn quit(&self) {
        self.stopping.set(true);
        timer::wake_all();
    }

    /// Whether the worker is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Ends some idle connections: there are as many as there may be.
    pub fn make_room(&self) {
        self.crowd.set(CROWD);
        pool::make_room();
        timer::wake_all();
    }

    /// Whether an idle connection shall end; asking is one more that does.
    fn must_yield(&self) -> bool {
        let crowd = self.crowd.get();
        self.crowd.set(crowd.saturating_sub(1));
        crowd > 0 || self.stopping.get()
    }

    /// The number of open connections.
    pub fn connections(&self) -> u64 {
        self.connections.get()
    }

    /// The connections that are open now, to be ended when their time is over.
    pub fn take_clients(&self) -> Vec<Weak<Client>> {
        self.clients.take()
    }

    fn opened(&self, client: &Rc<Client>) {
        self.connections.set(self.connections.get() + 1);
        if self.table.borrow().process.worker_shutdown_timeout.is_zero() {
            return;
        }
        let mut clients = self.clients.borrow_mut();
        if clients.len() as u64 > 2 * self.connections.get() {
            clients.retain(|client| client.strong_count() > 0);
        }
        clients.push(Rc::downgrade(client));
    }

    fn closed(&self) {
        self.connections.set(self.connections.get().saturating_sub(1));
        if self.connections.get() == 0 {
            self.idle.notify_waiters();
        }
    }
}
