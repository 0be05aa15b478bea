//! Where the tests of a package stand, which the testing package does not say.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// File name and line of each test function in the test files of a directory.
pub(super) fn of_tests(package: &Path) -> HashMap<String, (String, u32)> {
    let mut places = HashMap::new();
    for entry in fs::read_dir(package).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let text =
            if name.ends_with("_test.go") { fs::read(entry.path()).unwrap_or_default() } else { continue };
        for (line, number) in String::from_utf8_lossy(&text).lines().zip(1..) {
            if let Some(function) = test_function(line) {
                places.insert(function.to_owned(), (name.clone(), number));
            }
        }
    }
    places
}

fn test_function(line: &str) -> Option<&str> {
    let name = line.strip_prefix("func ")?.split(['(', '[']).next()?.trim();
    ["Test", "Example", "Fuzz"].iter().any(|kind| name.starts_with(kind)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_their_names() {
        let package = tempfile::tempdir().unwrap();
        let text =
            "package a\n\nfunc TestA(t *testing.T) {\n}\nfunc (s *Suite) TestB() {}\nfunc ExampleC() {}\n";
        fs::write(package.path().join("a_test.go"), text).unwrap();
        fs::write(package.path().join("a.go"), "func TestD() {}").unwrap();
        let places = of_tests(package.path());
        assert_eq!(places.len(), 2);
        assert_eq!(places["TestA"], ("a_test.go".to_owned(), 3));
        assert_eq!(places["ExampleC"].1, 6);
    }
}
