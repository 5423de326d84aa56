//! The threads of a worker, and which of them listens where.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use socket2::Socket;

use super::order::Slot;
use super::thread::{self, Command, Handle};
use crate::table::Table;

/// The threads.
pub struct Crew {
    threads: Vec<Handle>,
    sockets: BTreeMap<Slot, Socket>,
    /// Open for writing as long as a thread lives.
    ended: PipeReader,
    alive: Option<Arc<PipeWriter>>,
}

impl Crew {
    /// Nobody yet.
    pub fn new() -> io::Result<Self> {
        let (ended, alive) = io::pipe()?;
        Ok(Self { threads: Vec::new(), sockets: BTreeMap::new(), ended, alive: Some(Arc::new(alive)) })
    }

    /// Serves `table` with so many threads on `slots`, some of whose sockets are new.
    pub fn serve(
        &mut self,
        table: &Arc<Table>,
        threads: usize,
        slots: &[Slot],
        new: impl IntoIterator<Item = (Slot, OwnedFd)>,
    ) -> io::Result<()> {
        self.sockets.extend(new.into_iter().map(|(slot, socket)| (slot, socket.into())));
        let Some(alive) = &self.alive else { return Ok(()) };
        while self.threads.len() < threads {
            self.threads.push(thread::start(Arc::clone(table), Arc::clone(alive))?);
        }
        // A thread too many takes no more connections, but keeps those it has.
        for (number, handle) in self.threads.iter().enumerate() {
            let own = self.sockets.iter().filter(|(slot, _)| slot.1 % threads == number && slots.contains(slot));
            let own = own.map(|(slot, socket)| Ok((slot.clone(), socket.try_clone()?)));
            handle.tell(Command::Serve(Arc::clone(table), own.collect::<io::Result<_>>()?));
        }
        self.sockets.retain(|slot, _| slots.contains(slot));
        Ok(())
    }

    /// Lets every thread end when its last connection has.
    pub fn quit(&mut self) {
        self.end(|| Command::Quit);
    }

    /// Lets every thread end now.
    pub fn stop(&mut self) {
        self.end(|| Command::Stop);
    }

    /// Is readable once all threads have ended.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    fn end(&mut self, command: impl Fn() -> Command) {
        self.threads.iter().for_each(|thread| thread.tell(command()));
        self.sockets.clear();
        self.alive = None;
    }
}
