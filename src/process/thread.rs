//! A worker thread: its runtime, its listeners, and what the master tells it.

use std::collections::{HashMap, HashSet};
use std::io::PipeWriter;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet, LocalSet};

use super::order::Slot;
use crate::http::Client;
use crate::net::addr::Endpoint;
use crate::net::{Level, clock, timer};
use crate::serve::Worker;
use crate::serve::accept::{self, Listener};
use crate::table::Table;

/// What a thread is told.
pub enum Command {
    /// Serve this table on these sockets and no others.
    Serve(Arc<Table>, Vec<(Slot, Socket)>),
    /// Take no more connections and end when the last one has.
    Quit,
    /// End.
    Stop,
}

/// A running thread.
pub struct Handle(UnboundedSender<Command>);

impl Handle {
    /// Says it; a thread that has ended needs no telling.
    pub fn tell(&self, command: Command) {
        let _ = self.0.send(command);
    }
}

/// Starts a thread that serves `table`, nowhere yet; `alive` is dropped when it ends.
pub fn start(table: Arc<Table>, alive: Arc<PipeWriter>) -> std::io::Result<Handle> {
    let (commands, ear) = unbounded_channel();
    std::thread::Builder::new().spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_unpark(clock::refresh)
            .enable_all()
            .on_thread_park(crate::modules::flush_logs)
            .build();
        match runtime {
            Ok(runtime) => LocalSet::new().block_on(&runtime, work(table, ear)),
            Err(error) => table.error_log.write(Level::Emerg, None, &format!("worker could not start: {error}")),
        }
        crate::modules::finish_logs();
        drop(alive);
    })?;
    Ok(Handle(commands))
}

/// Who accepts at one socket.
struct Accepting {
    listener: Rc<Listener>,
    task: AbortHandle,
}

async fn work(table: Arc<Table>, mut ear: UnboundedReceiver<Command>) {
    let worker = Worker::new(table);
    let mut accepting = HashMap::new();
    let mut watchers: JoinSet<()>;
    // The time zone is looked up before there are requests that would wait for it.
    clock::now();
    tokio::task::spawn_local(timer::watch());
    tokio::task::spawn_local(crate::upstream::pool::sweep());
    loop {
        match ear.recv().await {
            Some(Command::Serve(table, sockets)) => {
                // Who looked names up for the table before ends.
                watchers = JoinSet::new();
                table.upstreams.watchers(&table.error_log).into_iter().for_each(|watcher| {
                    watchers.spawn_local(watcher);
                });
                serve(&worker, table, sockets, &mut accepting);
            }
            Some(Command::Quit) => break,
            Some(Command::Stop) | None => return,
        }
    }
    accepting.drain().for_each(|(slot, accepting)| accepting.end(&worker, &slot.0));
    worker.quit();
    tokio::select! {
        () = last_one(&worker) => {}
        Some(Command::Stop) = ear.recv() => {}
    }
}

/// Lets new requests see `table`, and changes where connections come from.
fn serve(
    worker: &Rc<Worker>,
    table: Arc<Table>,
    sockets: Vec<(Slot, Socket)>,
    accepting: &mut HashMap<Slot, Accepting>,
) {
    let limit = worker.table().process.worker_shutdown_timeout;
    worker.reload(table);
    let old = worker.take_clients();
    if !limit.is_zero() {
        tokio::task::spawn_local(async move {
            tokio::time::sleep(limit).await;
            cut(&old);
        });
    }
    let kept: HashSet<&Slot> = sockets.iter().map(|(slot, _)| slot).collect();
    let gone: Vec<Slot> = accepting.keys().filter(|slot| !kept.contains(slot)).cloned().collect();
    for slot in gone {
        if let Some(accepting) = accepting.remove(&slot) {
            accepting.end(worker, &slot.0);
        }
    }
    listen(worker, sockets, accepting);
}

/// Waits for the last connection to end, as long as `worker_shutdown_timeout` allows.
async fn last_one(worker: &Rc<Worker>) {
    let ended = async {
        while worker.connections() > 0 {
            worker.idle.notified().await;
        }
    };
    let limit = worker.table().process.worker_shutdown_timeout;
    if limit.is_zero() {
        return ended.await;
    }
    tokio::pin!(ended);
    if tokio::time::timeout(limit, &mut ended).await.is_err() {
        cut(&worker.take_clients());
        // They write their log lines; who cannot end even so is left behind.
        let _ = tokio::time::timeout(FAREWELL, ended).await;
    }
}

/// How long connections may take to end once they were cut.
const FAREWELL: Duration = Duration::from_millis(100);

fn cut(clients: &[Weak<Client>]) {
    clients.iter().filter_map(Weak::upgrade).for_each(|client| client.stream.cut());
}

fn listen(worker: &Rc<Worker>, sockets: Vec<(Slot, Socket)>, accepting: &mut HashMap<Slot, Accepting>) {
    for (slot, socket) in sockets {
        if accepting.contains_key(&slot) {
            continue;
        }
        let listener = match &slot.0 {
            Endpoint::Inet(_) => TcpListener::from_std(socket.into()).map(Listener::Tcp),
            Endpoint::Unix(_) => UnixListener::from_std(socket.into()).map(Listener::Unix),
        };
        match listener.map(Rc::new) {
            Ok(listener) => {
                let run = accept::run(Rc::clone(worker), Rc::clone(&listener), slot.0.clone());
                let task = tokio::task::spawn_local(run).abort_handle();
                accepting.insert(slot, Accepting { listener, task });
            }
            Err(error) => {
                let message = format!("listening on {} failed: {error}", slot.0);
                worker.table().error_log.write(Level::Emerg, None, &message);
            }
        }
    }
}

impl Accepting {
    /// Takes the connections that are there already, and no more.
    fn end(self, worker: &Rc<Worker>, at: &Endpoint) {
        self.task.abort();
        accept::drain(worker, &self.listener, at);
    }
}
