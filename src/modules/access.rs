//! `allow` and `deny`: <https://nginx.org/en/docs/http/ngx_http_access_module.html>

use super::{Phases, Seal};
use crate::conf::args::text;
use crate::conf::{Args, Contexts, Diag, Directive, List, Problem, many};
use crate::http::{Flow, Request};
use crate::net::Level;
use crate::net::cidr::Cidr;

/// `ngx_http_access_module`.
pub struct Module;

/// Whom a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    All,
    Unix,
    Net(Cidr),
}

/// The first rule that is about the client decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    whom: Whom,
    deny: bool,
}

const PLACES: Contexts = Contexts(Contexts::SCOPES.0 | Contexts::LIMIT_EXCEPT.0);

impl super::Module for Module {
    type Conf = List<Rule>;
    type Main = ();
    type Loc = Vec<Rule>;
    const PHASES: Phases = Phases::ACCESS;

    const DIRECTIVES: &'static [Directive<List<Rule>>] =
        &[many("allow", PLACES, 1..=1, |c, a| rule(c, a, false)), many("deny", PLACES, 1..=1, |c, a| rule(c, a, true))];

    fn seal(conf: List<Rule>, (): &(), _: &mut Seal<'_>) -> Result<Vec<Rule>, Diag> {
        Ok(conf.to_vec())
    }

    async fn access(rules: &Vec<Rule>, request: &mut Request) -> Flow {
        let ip = request.peer_ip();
        let found = rules.iter().find(|rule| match (rule.whom, ip) {
            (Whom::All, _) | (Whom::Unix, None) => true,
            (Whom::Net(net), Some(ip)) => net.contains(ip),
            _ => false,
        });
        match found {
            Some(Rule { deny: true, .. }) => {
                if !request.core().satisfy_any {
                    request.log(Level::Error, "access forbidden by rule");
                }
                Flow::Fail(403)
            }
            Some(_) => Flow::Allow,
            None => Flow::Next,
        }
    }
}

fn rule(rules: &mut List<Rule>, args: &mut Args<'_>, deny: bool) -> Result<(), Problem> {
    let word = args.word(0);
    let whom = match word {
        b"all" => Whom::All,
        b"unix:" => Whom::Unix,
        _ => {
            let (net, low) = Cidr::parse(word)
                .ok_or_else(|| Problem::new(format!("invalid parameter \"{}\"", text(word))).at(0))?;
            if low {
                args.warn(format!("low address bits of {} are meaningless", text(word)));
            }
            Whom::Net(net)
        }
    };
    rules.push(Rule { whom, deny });
    Ok(())
}
