//! The recipes that come with the program, `recipes/*.toml`, and those of the user.
//!
//! A recipe is a [`TrainConfig`] without its architecture, and says what it is for:
//!
//! ```toml
//! datasets = ["cifar10", "cifar100"]
//! archs = ["mbv2"]                    # prefixes; the longest that fits wins
//!
//! [recipe]
//! epochs = 200
//! optimizer = { kind = "sgd", momentum = 0.9, nesterov = true }
//! ```

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use crate::{TrainConfig, TrainError};

/// Name and text of every recipe in the program.
const BUILT_IN: [(&str, &str); 5] = [
    ("cifar-mobilenet", include_str!("../../../../recipes/cifar-mobilenet.toml")),
    ("cifar-resnet", include_str!("../../../../recipes/cifar-resnet.toml")),
    ("fashion-mini", include_str!("../../../../recipes/fashion-mini.toml")),
    ("imagenet", include_str!("../../../../recipes/imagenet.toml")),
    ("small-images", include_str!("../../../../recipes/small-images.toml")),
];

/// Stands for every data set.
const ANY: &str = "*";

/// The settings for `arch` on `dataset`: from `file` if there is one, else from the built-in
/// recipe made for both; then `settings`, each `key=value` with a dotted key such as
/// `recipe.schedule.floor` and a TOML value.
///
/// # Errors
/// No recipe for the pair, a file that is no recipe, or a key that no recipe has.
pub fn resolve(
    dataset: &str,
    arch: &str,
    file: Option<&Path>,
    settings: &[String],
) -> Result<TrainConfig, TrainError> {
    let (name, text) = match file {
        Some(path) => (path.display().to_string(), fs::read_to_string(path).map_err(TrainError::io(path))?),
        None => built_in(dataset, arch)?,
    };
    let mut table = parse(&name, &text)?;
    table.remove("datasets");
    table.remove("archs");
    for setting in settings {
        set(&mut table, setting)?;
    }
    table.insert("arch".into(), arch.into());
    table.try_into().map_err(|e: toml::de::Error| TrainError::format(&name, one_line(&e)))
}

/// The settings as TOML: what a run folder keeps, and what `--recipe` reads again.
///
/// # Errors
/// None that a valid configuration could cause.
pub fn to_toml(config: &TrainConfig) -> Result<String, TrainError> {
    let fail = |e: toml::ser::Error| TrainError::format("recipe", e.to_string());
    let mut table = Table::try_from(config).map_err(fail)?;
    table.remove("arch");
    toml::to_string(&table).map_err(fail)
}

fn built_in(dataset: &str, arch: &str) -> Result<(String, String), TrainError> {
    let mut best: Option<(usize, &str, &str)> = None;
    for (name, text) in BUILT_IN {
        let table = parse(name, text)?;
        let names = |key: &str| -> Vec<String> {
            let array = table.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            array.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let named = names("datasets").iter().any(|d| d == family(dataset));
        if !named && !names("datasets").iter().any(|d| d == ANY) {
            continue;
        }
        let fit = names("archs").iter().filter(|a| arch.starts_with(a.as_str())).map(String::len).max();
        // A recipe for this very data set comes before one for any.
        let Some(fit) = fit.map(|len| len + if named { 1000 } else { 0 }) else { continue };
        if best.is_none_or(|(other, ..)| fit > other) {
            best = Some((fit, name, text));
        }
    }
    let (_, name, text) = best.ok_or_else(|| TrainError::Config {
        setting: "recipe",
        reason: format!("none for {arch} on {dataset}; give one with --recipe FILE"),
    })?;
    Ok((name.to_owned(), text.to_owned()))
}

/// A folder's side is no part of what it is.
fn family(dataset: &str) -> &str {
    if dataset.starts_with("folder-") { "folder" } else { dataset }
}

fn parse(name: &str, text: &str) -> Result<Table, TrainError> {
    text.parse().map_err(|e: toml::de::Error| TrainError::format(name, one_line(&e)))
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().trim().replace('\n', " ")
}

/// Applies one `key=value`.
fn set(table: &mut Table, setting: &str) -> Result<(), TrainError> {
    let malformed =
        |reason: &str| TrainError::Config { setting: "--set", reason: format!("`{setting}` {reason}") };
    let (key, value) =
        setting.split_once('=').ok_or_else(|| malformed("is not KEY=VALUE, such as recipe.epochs=30"))?;
    // A word without quotes is a string.
    let value = match format!("value = {value}").parse::<Table>() {
        Ok(mut parsed) => parsed.remove("value").ok_or_else(|| malformed("has no value"))?,
        Err(_) => Value::String(value.to_owned()),
    };
    let mut path: Vec<&str> = key.trim().split('.').collect();
    let last = path.pop().filter(|k| !k.is_empty()).ok_or_else(|| malformed("has no key"))?;
    let mut inner = table;
    for part in path {
        let entry = inner.entry(part).or_insert_with(|| Value::Table(Table::new()));
        inner = entry.as_table_mut().ok_or_else(|| malformed("goes below a plain value"))?;
    }
    inner.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Optimizer;
    use crate::recipe::Schedule;

    fn message(settings: &[&str]) -> String {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        resolve("cifar100", "mbv2-w0.75", None, &settings).unwrap_err().to_string()
    }

    #[test]
    fn every_recipe_is_whole_and_survives_a_round_trip() {
        for (name, text) in BUILT_IN {
            let mut table = parse(name, text).unwrap();
            for key in ["datasets", "archs"] {
                assert!(!table.remove(key).unwrap().as_array().unwrap().is_empty(), "{name}: {key}");
            }
            let config: TrainConfig = table.try_into().unwrap();
            config.recipe.check().unwrap();
            let again: TrainConfig = parse(name, &to_toml(&config).unwrap()).unwrap().try_into().unwrap();
            assert_eq!(again, TrainConfig { arch: TrainConfig::default().arch, ..config });
        }
    }

    #[test]
    fn data_set_and_family_find_their_recipe() {
        let found = |dataset, arch| resolve(dataset, arch, None, &[]).unwrap();
        let mobile = found("cifar100", "mbv2-w0.75");
        assert_eq!((mobile.recipe.epochs, mobile.recipe.batch), (200, 256));
        assert_eq!(mobile.arch, "mbv2-w0.75");
        assert_ne!(found("cifar10", "resnet32a").recipe, mobile.recipe);
        assert_eq!(found("fashion-mini", "mbv2-tiny").recipe, TrainConfig::default().recipe);
        assert!(found("folder", "resnet50").recipe.epochs > 0);
    }

    #[test]
    fn settings_reach_every_field_and_unknown_ones_are_named() {
        let settings = [
            "recipe.epochs=3",
            "seed=7",
            "recipe.optimizer={kind=\"adam\"}",
            "recipe.schedule={kind=\"multistep\", milestones=[1, 2.5], factor=0.2}",
            "teacher=runs/teacher/best.safetensors",
            "distill.mix=0.5",
        ]
        .map(str::to_owned);
        let config = resolve("cifar100", "mbv2-w0.75", None, &settings).unwrap();
        assert_eq!((config.recipe.epochs, config.seed, config.distill.mix), (3, 7, 0.5));
        assert_eq!(config.recipe.optimizer, Optimizer::Adam { beta1: 0.9, beta2: 0.999 });
        let milestones = vec![1.0, 2.5];
        assert_eq!(config.recipe.schedule, Schedule::Multistep { milestones, factor: 0.2 });
        assert_eq!(config.teacher.unwrap().to_str(), Some("runs/teacher/best.safetensors"));

        for unknown in ["recipe.epoch=3", "epochs=3", "recipe.augment.rotate=1", "recipe.schedule.flor=0.1"] {
            let text = message(&[unknown]);
            let key = unknown.split('=').next().unwrap().rsplit('.').next().unwrap();
            assert!(text.contains(&format!("`{key}`")) && !text.contains('\n'), "{text}");
        }
        assert!(message(&["recipe.epochs"]).contains("KEY=VALUE"));
        assert!(message(&["recipe.epochs.more=1"]).contains("plain value"));
        assert!(
            message(&["recipe.epochs=\"many\""]).contains("epochs"),
            "{}",
            message(&["recipe.epochs=\"many\""])
        );
    }

    #[test]
    fn an_unknown_pair_or_a_broken_file_is_one_line() {
        let error = resolve("cifar100", "vgg16", None, &[]).unwrap_err().to_string();
        assert!(error.contains("vgg16") && error.contains("--recipe"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        fs::write(&path, "[recipe]\nepochs = = 3\n").unwrap();
        let error = resolve("cifar100", "mbv2-w1", Some(&path), &[]).unwrap_err().to_string();
        assert!(error.contains("mine.toml") && !error.contains('\n'), "{error}");
    }
}
