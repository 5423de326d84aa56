//! Reading the files that a configuration names, whatever they are (<https://nginx.org/en/docs/ngx_core_module.html#include>).
//!
//! nginx goes by the size that the system tells, which is none for devices. A pipe may hold a configuration
//! (`-c <(generate)`), but nobody is waited for without end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// As much is taken from a pipe, in bytes.
const MOST: u64 = 64 << 20;

/// The contents of a file, which are none for a device; who writes to a pipe is waited for as long as `patience` says.
pub fn read(path: &Path, patience: Duration) -> io::Result<Vec<u8>> {
    // Opening a pipe that nobody writes to would wait as well.
    let mut file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let kind = file.metadata()?.file_type();
    let mut bytes = Vec::new();
    if kind.is_fifo() {
        pipe(&file, patience, &mut bytes)?;
    } else if !kind.is_char_device() && !kind.is_block_device() {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn pipe(file: &File, patience: Duration, bytes: &mut Vec<u8>) -> io::Result<()> {
    loop {
        match file.take(MOST + 1 - bytes.len() as u64).read_to_end(bytes) {
            Ok(_) if bytes.len() as u64 > MOST => return Err(Errno::EFBIG.into()),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let limit = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], limit)? == 0 {
            return Err(Errno::ETIMEDOUT.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn nothing_is_read_without_end() {
        let read = |path: &str| read(Path::new(path), Duration::from_millis(100));
        assert_eq!(read("/dev/zero").unwrap(), b"");
        assert_eq!(read("/dev/null").unwrap(), b"");
        assert!(!read("/proc/self/stat").unwrap().is_empty());
        let path = std::env::temp_dir().join(format!("nginx-rs-pipe-{}", std::process::id()));
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let name = path.to_str().unwrap();
        assert_eq!(read(name).unwrap(), b"", "nobody writes");
        let mut writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert_eq!(read(name).unwrap_err().raw_os_error(), Some(Errno::ETIMEDOUT as i32));
        writer.write_all(b"bytes").unwrap();
        assert_eq!(read(name).unwrap_err().raw_os_error(), Some(Errno::ETIMEDOUT as i32));
        writer.write_all(b"all").unwrap();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || super::read(&path, Duration::from_secs(9))
        });
        std::thread::sleep(Duration::from_millis(100));
        drop(writer);
        assert_eq!(reader.join().unwrap().unwrap(), b"all");
        std::fs::remove_file(path).unwrap();
    }
}
