//! Services by name, in SRV records (RFC 2782):
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#service>

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use simple_dns::TYPE;
use simple_dns::rdata::SRV;
use tokio::time::timeout;

use super::{Addresses, Answer, ResolveError, Resolver, clock};

/// One SRV record.
#[derive(Debug, Clone)]
pub(super) struct Record {
    priority: u16,
    weight: u16,
    port: u16,
    target: String,
}

impl Record {
    pub(super) fn of(srv: &SRV<'_>) -> Self {
        let SRV { priority, weight, port, target } = srv;
        Self { priority: *priority, weight: (*weight).max(1), port: *port, target: target.to_string() }
    }
}

/// A server of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: SocketAddr,
    /// The name that has this address.
    pub name: String,
    /// Its share; at least 1.
    pub weight: u16,
    /// Servers of a higher number are for when those of the lowest are gone.
    pub priority: u16,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The servers by priority, or why there are none.
    pub servers: Result<Vec<Server>, ResolveError>,
    /// Until when that holds.
    pub until: Instant,
    /// Names of the service that have no address, and why.
    pub failed: Vec<(String, ResolveError)>,
}

impl Resolver {
    /// The servers of `service` (`http`, or `_http._tcp`) at `name`.
    pub async fn service(&self, service: &str, name: &str) -> Found {
        let name = if service.contains('.') { format!("{service}.{name}") } else { format!("_{service}._tcp.{name}") };
        let failed = |error| Found { servers: Err(error), until: self.until_failed(), failed: Vec::new() };
        let answer = match timeout(self.settings.timeout, self.follow(&name, true)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return failed(error),
            Err(_) => return failed(ResolveError::TIMED_OUT),
        };
        let mut records = answer.services;
        if records.is_empty() {
            return failed(ResolveError::NOT_FOUND);
        }
        records.sort_by_key(|record| record.priority);
        let found = all(records.iter().map(|record| self.resolve_until(&record.target))).await;
        self.gather(&records, found, self.until(answer.ttl))
    }

    /// Puts the servers of each priority in a row that begins at one of them, by their weights.
    fn gather(
        &self,
        records: &[Record],
        found: Vec<(Result<Addresses, ResolveError>, Instant)>,
        until: Instant,
    ) -> Found {
        let until = found.iter().map(|(_, until)| *until).fold(until, Instant::min);
        let (mut servers, mut failed) = (Vec::new(), Vec::new());
        let paired: Vec<(&Record, Vec<IpAddr>)> = records
            .iter()
            .zip(found)
            .map(|(record, (found, _))| match found {
                Ok(addresses) => (record, addresses.to_vec()),
                Err(error) => {
                    failed.push((record.target.clone(), error));
                    (record, Vec::new())
                }
            })
            .collect();
        for group in paired.chunk_by(|(a, _), (b, _)| a.priority == b.priority) {
            let share =
                |(record, addresses): &(&Record, Vec<IpAddr>)| u64::from(record.weight) * addresses.len() as u64;
            let mut left = clock::random() % group.iter().map(share).sum::<u64>().max(1);
            let first = group.iter().position(|one| {
                let here = left < share(one);
                left = left.saturating_sub(share(one));
                here
            });
            for (record, addresses) in group.iter().cycle().skip(first.unwrap_or(0)).take(group.len()) {
                servers.extend(addresses.iter().map(|ip| Server {
                    address: (*ip, record.port).into(),
                    name: record.target.clone(),
                    weight: record.weight,
                    priority: record.priority,
                }));
            }
        }
        let lost = failed.iter().any(|(_, error)| *error == ResolveError::NOT_FOUND);
        let servers = match failed.first() {
            _ if !servers.is_empty() => Ok(servers),
            Some((_, error)) if !lost => Err(*error),
            _ => Err(ResolveError::NOT_FOUND),
        };
        let until = if servers.is_err() { self.until_failed() } else { until };
        Found { servers, until, failed }
    }

    /// Asks one server for the records of a service.
    pub(super) async fn services(&self, name: &str) -> Result<Answer, ResolveError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.ask(name, TYPE::SRV, turn).await
    }
}

/// Runs all of them at the same time.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in running.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                *output = Some(done);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
