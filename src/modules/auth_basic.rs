//! `auth_basic`: a user and a password from a file of them.
//!
//! <https://nginx.org/en/docs/http/ngx_http_auth_basic_module.html>

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::{Phases, Seal};
use crate::conf::args::text;
use crate::conf::load::cannot_open;
use crate::conf::{Args, Contexts, Diag, Directive, Field, Problem, on, read};
use crate::http::{Flow, Request, Value, basic, password};
use crate::net::Level;

/// `ngx_http_auth_basic_module`.
pub struct Module;

/// Settings of a scope.
#[derive(Clone, Default)]
pub struct Conf {
    realm: Option<Value>,
    users: Option<Value>,
    /// What relative names of files hang under.
    prefix: PathBuf,
}

const PLACES: Contexts = Contexts(Contexts::SCOPES.0 | Contexts::LIMIT_EXCEPT.0);

impl super::Module for Module {
    type Conf = Conf;
    type Main = ();
    type Loc = Conf;
    const PHASES: Phases = Phases::ACCESS;

    const DIRECTIVES: &'static [Directive<Conf>] = &[
        on("auth_basic", PLACES, 1..=1, |c, a| a.set(&mut c.realm)),
        on("auth_basic_user_file", PLACES, 1..=1, users),
    ];

    fn seal(conf: Conf, (): &(), _: &mut Seal<'_>) -> Result<Conf, Diag> {
        Ok(conf)
    }

    async fn access(conf: &Conf, request: &mut Request) -> Flow {
        let (Some(realm), Some(users)) = (&conf.realm, &conf.users) else { return Flow::Next };
        let realm = realm.get(request);
        if &*realm == b"off" {
            return Flow::Next;
        }
        let Some((user, password)) = basic::credentials(request) else {
            request.log(Level::Info, "no user/password was provided for basic authentication");
            return refuse(request, &realm);
        };
        let path = conf.prefix.join(OsStr::from_bytes(&users.get(request)));
        let file = match read::read(&path, Duration::ZERO) {
            Ok(file) => file,
            Err(error) => {
                let (level, status) = match error.kind() {
                    ErrorKind::NotFound => (Level::Error, 403),
                    _ => (Level::Crit, 500),
                };
                request.log(level, &cannot_open(&path, &error));
                return Flow::Fail(status);
            }
        };
        let Some(stored) = find(&file, &user) else {
            let problem = format!("user \"{}\" was not found in \"{}\"", text(&user), path.display());
            request.log(Level::Error, &problem);
            return refuse(request, &realm);
        };
        if check(password, stored).await {
            return Flow::Allow;
        }
        request.log(Level::Error, &format!("user \"{}\": password mismatch", text(&user)));
        refuse(request, &realm)
    }
}

/// Compares, on a thread of its own where that takes long.
async fn check(password: Vec<u8>, stored: &[u8]) -> bool {
    if !password::is_slow(stored) {
        return password::verify(&password, stored);
    }
    let stored = stored.to_vec();
    tokio::task::spawn_blocking(move || password::verify(&password, &stored)).await.unwrap_or(false)
}

/// What the file says of a user, as it is stored.
fn find<'a>(file: &'a [u8], user: &[u8]) -> Option<&'a [u8]> {
    let mut lines = file.split(|&b| b == b'\n').filter(|line| line.first() != Some(&b'#'));
    let rest = lines.find_map(|line| line.strip_prefix(user)?.strip_prefix(b":"))?;
    rest.split(|b| matches!(b, b':' | b'\r')).next()
}

fn refuse(request: &mut Request, realm: &[u8]) -> Flow {
    let challenge = [b"Basic realm=\"", realm, b"\""].concat();
    request.carried.headers.push(b"WWW-Authenticate", &challenge);
    Flow::Fail(401)
}

fn users(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    conf.prefix.clone_from(&args.env.conf_prefix);
    conf.users = Some(Value::read(args.word(0), args).map_err(|problem| problem.at(0))?);
    Ok(())
}
