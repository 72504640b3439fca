//! What goes over the wire, as a hash: a change of any message of a seeded session shows here.
//!
//! If a change is meant, raise the version in the hello (`extension/setup.rs`) and take the new
//! hashes from this test's output.

#[path = "../fuzz/cases.rs"]
#[allow(dead_code)]
mod cases;

use copriv_ot::OtFlavour;

/// Flavour, bytes that the client sends, and the first digits of their BLAKE3 hash.
const TRACES: [(&str, usize, &str); 7] = [
    ("iknp", 11395, "b481ebb32d7a4121"),
    ("softspoken2", 11971, "945b77e7cbe1205f"),
    ("softspoken4", 12259, "78f51f2231841692"),
    ("softspoken8", 12403, "2a4d50f41039441d"),
    ("ferret", 227168, "dcec6e3b7e04218b"),
    ("ferret-small", 227168, "a55eb66b73780820"),
    ("ferret-large", 227168, "48e7a50fcd87d100"),
];

#[test]
fn seeded_sessions_send_what_they_always_sent() {
    let traces = OtFlavour::ALL.iter().enumerate().map(|(f, flavour)| {
        let bytes = cases::transcript(f);
        let hash = blake3::hash(bytes).to_hex()[..16].to_owned();
        (flavour.name(), bytes.len(), hash)
    });
    let expected = TRACES.map(|(name, len, hash)| (name, len, hash.to_owned()));
    assert_eq!(traces.collect::<Vec<_>>(), expected);
}
