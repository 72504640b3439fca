//! The papers' tables come out of the formulas.

use std::collections::HashSet;
use std::sync::LazyLock;

use copriv_plan::literature::figures;
use copriv_plan::literature::tables::{self, AGREE_WITHIN, Row, Table};

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| tables::all().unwrap());

fn rows(table: &str) -> &'static [Row] {
    let found = TABLES.iter().find(|t| t.name == table).unwrap_or_else(|| panic!("no table {table}"));
    &found.rows
}

fn within(table: &str, tolerance: f64, wanted: impl Fn(&Row) -> bool) -> usize {
    let rows: Vec<&Row> = rows(table).iter().filter(|r| r.paper.is_some() && wanted(r)).collect();
    for row in &rows {
        let deviation = row.deviation().unwrap_or_else(|| panic!("{row:?}"));
        assert!(deviation.abs() <= tolerance, "{:+.2} %: {row:?}", 100.0 * deviation);
    }
    rows.len()
}

#[test]
fn coprivs_table_3_comes_out_within_a_percent() {
    assert_eq!(within("CoPriv table 3", 0.01, |_| true), 4);
}

#[test]
fn coprivs_ratio_comes_out_within_two_percent() {
    assert_eq!(within("CoPriv, 2.1x", 0.02, |_| true), 6);
}

#[test]
fn scis_mixed_products_come_out_within_a_percent() {
    assert_eq!(within("SCI, W2A4", 0.01, |_| true), 6);
}

#[test]
fn privquants_table_9_comes_out_or_is_explained() {
    assert_eq!(within("PrivQuant table 9", 0.06, |r| r.row.ends_with(") PrivQuant")), 3);
    assert_eq!(within("PrivQuant table 9", 0.10, |r| r.row.ends_with("SiRNN")), 4);
}

#[test]
fn whole_networks_of_crypt_flow_2_come_out_within_five_percent() {
    assert_eq!(within("networks", 0.05, |r| r.row.ends_with("CrypTFlow2")), 3);
}

#[test]
fn packed_vole_is_never_above_privquants_printed_figures() {
    let mut compared = 0;
    for row in ["PrivQuant table 9", "networks"].into_iter().flat_map(rows) {
        if let (true, Some(deviation)) = (row.row.contains("copriv-ng"), row.deviation()) {
            assert!(deviation < 0.0, "{row:?}");
            compared += 1;
        }
    }
    assert_eq!(compared, 3 * 3 + 3 * 2);
}

#[test]
fn every_printed_figure_is_shown_and_every_disagreement_explained() {
    let shown: HashSet<(&str, &str)> =
        TABLES.iter().flat_map(|t| t.rows.iter().map(|r| (t.name.as_str(), r.row.as_str()))).collect();
    assert_eq!(shown.len(), TABLES.iter().map(|t| t.rows.len()).sum::<usize>(), "a row's name is used twice");
    for printed in figures::tables() {
        for row in &printed.rows {
            assert!(
                shown.contains(&(printed.name.as_str(), row.row.as_str())),
                "{}: {}",
                printed.name,
                row.row
            );
        }
    }
    for row in TABLES.iter().flat_map(|t| &t.rows) {
        let agrees = row.deviation().is_some_and(|d| d.abs() <= AGREE_WITHIN);
        let nothing_to_explain = row.paper.is_none() && row.ours.is_some();
        assert!(agrees || nothing_to_explain || row.note.is_some(), "unexplained: {row:?}");
    }
}
