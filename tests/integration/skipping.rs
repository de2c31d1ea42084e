//! The list of tests that did not run.

use crate::skips;
use std::fs;

#[test]
fn skipped_tests_are_counted_once_each_with_reason_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let note = |what: &'static str, test: &str| {
        let noted = dir.path().to_owned();
        let thread = std::thread::Builder::new().name(test.to_owned());
        let begun = thread.spawn(move || skips::note(&noted, "7-1", what)).unwrap();
        begun.join().unwrap();
    };
    for (what, test) in
        [("nginx", "one"), ("nginx", "two"), ("nginx", "one"), ("curl", "three"), ("curl", "one")]
    {
        note(what, test);
    }
    // A test of another run, which this run's summary does not count.
    skips::note(dir.path(), "7-2", "haproxy");
    assert_eq!(
        skips::take(dir.path(), "7-1"),
        "stayput: 3 tests were skipped; missing: curl (1): apt-get install curl; \
         nginx (2): apt-get install nginx-light"
    );
    let nothing = "stayput: no test was skipped";
    assert_eq!(skips::take(dir.path(), "7-1"), nothing, "it is forgotten");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the other run's is kept");
    note("Python with all", "main");
    note("Python with all", "main");
    assert_eq!(
        skips::take(dir.path(), "7-1"),
        "stayput: 2 tests were skipped; missing: Python with all (2): run .ci/run once"
    );
}

#[test]
fn a_test_run_is_identified_by_its_parent_process() {
    assert_eq!(skips::run(), skips::run());
    let parent = std::os::unix::process::parent_id().to_string();
    assert!(skips::run().starts_with(&format!("{parent}-")));
}
