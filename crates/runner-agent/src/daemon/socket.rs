//! The socket a daemon listens on.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// A listening socket; dropping it takes its file away.
pub(crate) struct ListeningSocket {
    /// Where connections come in.
    pub(crate) listener: UnixListener,
    path: PathBuf,
}

/// Why a daemon can't listen.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon does.
    #[error("a runner-agent listens on {} already; stop it first, or choose another --socket", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is in the way.
    #[error("{} is in the way: it is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("failed to listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no place for a user's socket.
    #[error("neither XDG_RUNTIME_DIR nor HOME says where to listen; use --socket")]
    NoPlace,
}

impl ListeningSocket {
    /// Listens on `path`. A file that a dead daemon left is replaced. With `everybody`, every user may connect; the
    /// peer's credentials then decide.
    pub(crate) fn bind(path: PathBuf, everybody: bool) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Listen { path: path.clone(), source };
        check_free(&path)?;
        if let Some(parent) = path.parent() {
            let mode = if everybody { 0o755 } else { 0o700 };
            DirBuilder::new().recursive(true).mode(mode).create(parent).map_err(failed)?;
        }
        // It gets its name last, so that whoever sees it may rely on its permissions.
        let unfinished = path.with_added_extension(std::process::id().to_string());
        let listener = UnixListener::bind(&unfinished).map_err(failed)?;
        let mode = if everybody { 0o666 } else { 0o600 };
        let named = fs::set_permissions(&unfinished, Permissions::from_mode(mode))
            .and_then(|()| fs::rename(&unfinished, &path));
        named.inspect_err(|_| _ = fs::remove_file(&unfinished)).map_err(failed)?;
        Ok(ListeningSocket { listener, path })
    }
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes sure that at most the socket of a dead daemon is in the way.
fn check_free(path: &Path) -> Result<(), SocketError> {
    let path = || path.to_owned();
    match fs::symlink_metadata(path()) {
        Ok(metadata) if !metadata.file_type().is_socket() => Err(SocketError::NotASocket { path: path() }),
        Ok(_) => match UnixStream::connect(path()) {
            Ok(_) => Err(SocketError::InUse { path: path() }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(source) => Err(SocketError::Listen { path: path(), source }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(SocketError::Listen { path: path(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_dead_daemons_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/socket");
        let bound = ListeningSocket::bind(path.clone(), false).unwrap();
        let again = ListeningSocket::bind(path.clone(), false);
        assert!(matches!(again, Err(SocketError::InUse { .. })));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(bound);
        assert!(!path.exists());

        // The standard library's listener leaves its file, as a killed daemon does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let replaced = ListeningSocket::bind(path.clone(), true).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        drop(replaced);

        fs::write(&path, "precious").unwrap();
        assert!(matches!(ListeningSocket::bind(path.clone(), false), Err(SocketError::NotASocket { .. })));
        assert!(path.exists());
    }
}
