//! A worker thread: its runtime, its listeners, and what the master tells it.

use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, LocalSet};

use crate::http::Client;
use crate::net::addr::Endpoint;
use crate::net::{Level, clock, timer};
use crate::serve::Worker;
use crate::serve::accept::{self, Listener};
use crate::table::Table;

/// What the master tells a thread.
pub enum Command {
    /// Serve this table; open and close these addresses.
    Reload(Arc<Table>, Vec<(Endpoint, Socket)>, Vec<Endpoint>),
    /// Take no more connections and end when the last one has.
    Quit,
}

/// A running thread.
pub struct Handle {
    /// Its ear.
    pub commands: UnboundedSender<Command>,
}

/// Starts a thread that serves `table` on `sockets`; `done` is dropped when it ends.
pub fn start(
    table: Arc<Table>,
    sockets: Vec<(Endpoint, Socket)>,
    done: UnboundedSender<()>,
) -> std::io::Result<Handle> {
    let (commands, ear) = unbounded_channel();
    std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_unpark(clock::refresh)
            .enable_all()
            .on_thread_park(crate::modules::flush_logs)
            .build();
        match runtime {
            Ok(runtime) => LocalSet::new().block_on(&runtime, work(table, sockets, ear)),
            Err(error) => table.error_log.write(Level::Emerg, None, &format!("worker could not start: {error}")),
        }
        crate::modules::finish_logs();
        drop(done);
    })?;
    Ok(Handle { commands })
}

async fn work(table: Arc<Table>, sockets: Vec<(Endpoint, Socket)>, mut ear: UnboundedReceiver<Command>) {
    let worker = Worker::new(table);
    let mut accepting = HashMap::new();
    listen(&worker, sockets, &mut accepting);
    tokio::task::spawn_local(timer::watch());
    tokio::task::spawn_local(crate::upstream::pool::sweep());
    while let Some(Command::Reload(table, added, removed)) = ear.recv().await {
        let limit = worker.table().process.worker_shutdown_timeout;
        worker.reload(table);
        let old = worker.take_clients();
        if !limit.is_zero() {
            tokio::task::spawn_local(async move {
                tokio::time::sleep(limit).await;
                cut(&old);
            });
        }
        for addr in removed {
            accepting.remove(&addr).iter().for_each(AbortHandle::abort);
        }
        listen(&worker, added, &mut accepting);
    }
    accepting.values().for_each(AbortHandle::abort);
    worker.quit();
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

fn listen(worker: &Rc<Worker>, sockets: Vec<(Endpoint, Socket)>, accepting: &mut HashMap<Endpoint, AbortHandle>) {
    for (addr, socket) in sockets {
        let listener = match &addr {
            Endpoint::Inet(_) => TcpListener::from_std(socket.into()).map(Listener::Tcp),
            Endpoint::Unix(_) => UnixListener::from_std(socket.into()).map(Listener::Unix),
        };
        match listener {
            Ok(listener) => {
                let task = tokio::task::spawn_local(accept::run(Rc::clone(worker), listener, addr.clone()));
                accepting.insert(addr, task.abort_handle());
            }
            Err(error) => {
                worker.table().error_log.write(Level::Emerg, None, &format!("listening on {addr} failed: {error}"));
            }
        }
    }
}
