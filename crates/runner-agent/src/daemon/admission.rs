//! Decides whom a daemon serves, and as whom.

use std::fmt;

use distributest_process::{IdentityError, User};

use crate::refusal::Refusal;

/// What becomes of a caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Its tests run as the daemon's own user.
    ServeAsSelf,
    /// Its tests run as this user, who it is.
    ServeAs(User),
    /// It is told why not.
    Refuse(Refusal),
}

impl fmt::Display for Admission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Admission::ServeAsSelf => write!(formatter, "served"),
            Admission::ServeAs(user) => write!(formatter, "served as {}", user.name),
            Admission::Refuse(refusal) => write!(formatter, "refused: {}", refusal.word()),
        }
    }
}

/// Decides by the uids of the daemon and of the caller, as the kernel tells them.
///
/// # Errors
///
/// When the host's accounts can't be looked up.
pub(crate) fn admit(own_uid: u32, peer_uid: u32, allow_root: bool) -> Result<Admission, IdentityError> {
    match (own_uid, peer_uid) {
        (0, 0) if allow_root => Ok(Admission::ServeAsSelf),
        (0, 0) => Ok(Admission::Refuse(Refusal::Root)),
        (0, peer) => match User::by_uid(peer) {
            Ok(user) => Ok(Admission::ServeAs(user)),
            Err(IdentityError::UnknownUid { .. }) => Ok(Admission::Refuse(Refusal::NoAccount)),
            Err(error) => Err(error),
        },
        (own, peer) if own == peer => Ok(Admission::ServeAsSelf),
        _ => Ok(Admission::Refuse(Refusal::OtherUser)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_is_served_as_itself_or_not_at_all() {
        let admit = |own, peer, allow_root| super::admit(own, peer, allow_root).unwrap();
        let nobody = User::by_name("nobody").unwrap();
        assert_eq!(admit(0, nobody.uid, false), Admission::ServeAs(nobody.clone()));
        assert_eq!(admit(0, 0, false), Admission::Refuse(Refusal::Root));
        assert_eq!(admit(0, 0, true), Admission::ServeAsSelf);
        assert_eq!(admit(0, 3_999_999_999, true), Admission::Refuse(Refusal::NoAccount));
        assert_eq!(admit(1000, 1000, false), Admission::ServeAsSelf);
        for allow_root in [false, true] {
            assert_eq!(admit(1000, 1001, allow_root), Admission::Refuse(Refusal::OtherUser));
            assert_eq!(admit(1000, 0, allow_root), Admission::Refuse(Refusal::OtherUser));
        }
    }
}
