//! The environment of processes, made ready once for all that have it.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, NulError, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::sync::Arc;

/// A whole environment, as execve(2) wants it; cheap to clone.
#[derive(Clone, Debug)]
pub struct Variables(Arc<Result<Vec<CString>, NulError>>);

impl Variables {
    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        let assignments = self.0.as_ref().as_ref().ok()?;
        let mut values = assignments.iter().filter_map(|assignment| value_of(assignment, name));
        values.next().map(OsStr::from_bytes)
    }

    /// Every `NAME=value` but that of `except`, if given.
    ///
    /// # Errors
    ///
    /// When a name or a value holds a NUL.
    pub(crate) fn assignments<'all>(
        &'all self,
        except: Option<&'all str>,
    ) -> io::Result<impl Iterator<Item = &'all CStr>> {
        let assignments = self.0.as_ref().as_ref().map_err(|error| io::Error::from(error.clone()))?;
        let kept = assignments
            .iter()
            .filter(move |assignment| except.and_then(|name| value_of(assignment, name)).is_none());
        Ok(kept.map(CString::as_c_str))
    }
}

impl Default for Variables {
    fn default() -> Self {
        Variables::from_iter([])
    }
}

/// Of a name given twice the last value counts.
impl FromIterator<(OsString, OsString)> for Variables {
    fn from_iter<All: IntoIterator<Item = (OsString, OsString)>>(variables: All) -> Self {
        let by_name: BTreeMap<OsString, OsString> = variables.into_iter().collect();
        let assignments = by_name.into_iter().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec())
        });
        Variables(Arc::new(assignments.collect()))
    }
}

fn value_of<'all>(assignment: &'all CStr, name: &str) -> Option<&'all [u8]> {
    assignment.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(all: &[(&str, &str)]) -> Variables {
        all.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        let variables = variables(&[("PATH", "/bin"), ("PATHS", "no"), ("PATH", "/usr/bin")]);
        assert_eq!(variables.get("PATH"), Some(OsStr::new("/usr/bin")));
        assert_eq!(variables.get("PAT"), None);
        let others: Vec<&CStr> = variables.assignments(Some("PATHS")).unwrap().collect();
        assert_eq!(others, [c"PATH=/usr/bin"]);
    }

    #[test]
    fn a_nul_is_an_error_where_it_is_used() {
        let variables = variables(&[("PATH", "/bin"), ("A", "b\0c")]);
        assert_eq!(variables.get("PATH"), None);
        assert!(variables.assignments(None).is_err());
    }
}
