//! Fixtures, fakes and checks shared by the tests of the other crates. Never shipped.
