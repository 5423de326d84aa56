//! `disable_symlinks` and `open_file_cache`: <https://nginx.org/en/docs/http/ngx_http_core_module.html#disable_symlinks>

use std::sync::Arc;

use super::Conf;
use crate::conf::args::text;
use crate::conf::{Args, Field, Problem, units};
use crate::http::Value;
use crate::http::symlinks::Symlinks;

/// `disable_symlinks off | on | if_not_owner [from=part]`.
pub fn disable_symlinks(conf: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let (mut which, mut from) = (None, None);
    for (index, word) in args.words().enumerate() {
        match word {
            b"off" => which = Some(None),
            b"on" => which = Some(Some(false)),
            b"if_not_owner" => which = Some(Some(true)),
            _ => {
                let part = word.strip_prefix(b"from=");
                let part =
                    part.ok_or_else(|| Problem::new(format!("invalid parameter \"{}\"", text(word))).at(index))?;
                from = Some(Value::read(part, args).map_err(|problem| problem.at(index))?);
            }
        }
    }
    let which = which.ok_or_else(|| {
        Problem::new("\"%DIRECTIVE%\" must have \"off\", \"on\" or \"if_not_owner\" parameter")
    })?;
    if args.len() == 2 && from.is_none() {
        let (one, two) = (text(args.word(0)), text(args.word(1)));
        return Err(Problem::new(format!("duplicate parameters \"{one} {two}\"")));
    }
    if from.is_some() && which.is_none() {
        return Err(Problem::new("\"from=\" cannot be used with \"off\" parameter"));
    }
    conf.core.disable_symlinks = which.map(|owner| Arc::new(Symlinks { owner, from }));
    Ok(())
}

/// Checks it. Small files stay in memory as it is, and the others are opened anew.
pub fn open_file_cache(_: &mut Conf, args: &mut Args<'_>) -> Result<(), Problem> {
    let mut max = false;
    for (index, word) in args.words().enumerate() {
        let valid = match (word.strip_prefix(b"max="), word.strip_prefix(b"inactive=")) {
            (Some(number), _) => {
                max = true;
                units::number(number).is_some_and(|number| number > 0)
            }
            (_, Some(time)) => units::sec(time).is_some(),
            _ => {
                max = true;
                word == b"off"
            }
        };
        if !valid {
            return Err(Problem::new(format!("invalid \"open_file_cache\" parameter \"{}\"", text(word))).at(index));
        }
    }
    if max { Ok(()) } else { Err(Problem::new("\"open_file_cache\" must have the \"max\" parameter")) }
}
