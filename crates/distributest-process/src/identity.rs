//! Users of this host: who they are, and who is at the other end of a socket.
//!
//! Accounts are looked up through the C library, so that those of LDAP and the like are found; `/etc/passwd` is
//! not all there is. Look-ups may go over the network and block.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use thiserror::Error;

use crate::accounts;

/// An account that could not be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// No account has this uid.
    #[error("find the account of uid {uid}: there is none on this host")]
    UnknownUid {
        /// The uid.
        uid: u32,
    },
    /// No account has this name.
    #[error("find the account of user {name:?}: there is none on this host")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// The account database could not be asked.
    #[error("look up the account of {subject}")]
    Lookup {
        /// `user "ana"` or `uid 1000`.
        subject: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// An account of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// Every group the user is a member of, the primary one included.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
}

impl User {
    /// Looks up a user by number.
    ///
    /// # Errors
    ///
    /// [`IdentityError::UnknownUid`] or [`IdentityError::Lookup`].
    pub fn by_uid(uid: u32) -> Result<User, IdentityError> {
        match accounts::by_uid(uid) {
            Ok(found) => found.ok_or(IdentityError::UnknownUid { uid }),
            Err(source) => Err(IdentityError::Lookup { subject: format!("uid {uid}"), source }),
        }
    }

    /// Looks up a user by login name.
    ///
    /// # Errors
    ///
    /// [`IdentityError::UnknownName`] or [`IdentityError::Lookup`].
    pub fn by_name(name: &str) -> Result<User, IdentityError> {
        match accounts::by_name(name) {
            Ok(found) => found.ok_or_else(|| IdentityError::UnknownName { name: name.to_owned() }),
            Err(source) => Err(IdentityError::Lookup { subject: format!("user {name:?}"), source }),
        }
    }

    /// The user this process runs as (its effective uid).
    ///
    /// # Errors
    ///
    /// [`IdentityError::UnknownUid`] or [`IdentityError::Lookup`].
    pub fn current() -> Result<User, IdentityError> {
        User::by_uid(geteuid().as_raw())
    }
}

/// The uid of the process that connected (or made) the other end of a Unix socket, as the kernel recorded it then.
///
/// # Errors
///
/// Those of `getsockopt`, as for a socket of another family.
pub fn peer_uid(socket: &impl AsFd) -> io::Result<u32> {
    Ok(socket_peercred(socket)?.uid.as_raw())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn root_is_known_by_number_and_name() {
        let root = User::by_uid(0).unwrap();
        assert_eq!((root.name.as_str(), root.uid, root.gid), ("root", 0, 0));
        assert!(root.groups.contains(&0), "{root:?}");
        assert!(root.home.is_absolute() && root.shell.is_absolute());
        assert_eq!(User::by_name("root").unwrap(), root);
    }

    #[test]
    fn unknown_users_are_told_from_failed_look_ups() {
        let name = "no such user";
        assert!(
            matches!(User::by_name(name), Err(IdentityError::UnknownName { name: said }) if said == name)
        );
        assert!(matches!(User::by_uid(3_999_999_999), Err(IdentityError::UnknownUid { uid: 3_999_999_999 })));
        assert!(matches!(User::by_name("a\0b"), Err(IdentityError::UnknownName { .. })));
    }

    #[test]
    fn the_peer_of_a_socket_pair_is_this_user() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(peer_uid(&one).unwrap(), geteuid().as_raw());
        assert_eq!(User::current().unwrap().uid, geteuid().as_raw());
    }
}
