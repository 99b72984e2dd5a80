//! Variables such as `LINECARD_ENGINE_BURST`, which take precedence over the file.

use std::ffi::OsString;

use super::given::Given;
use super::keys::{KEYS, OTHER_VARIABLES, PREFIX};
use super::problem::{Place, Refusal, nearest};
use super::read::Draft;

/// Lays the variables of an environment over what the file says.
pub fn apply(environment: impl IntoIterator<Item = (OsString, OsString)>, draft: &mut Draft) {
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        if OTHER_VARIABLES.contains(&name) {
            continue;
        }
        let place = Place::Variable(name.to_owned());
        let Some(index) = KEYS.iter().position(|key| key.variable() == name) else {
            draft.problems.push(unknown(name).at(place, ""));
            continue;
        };
        match value.to_str() {
            Some(value) => draft.set(index, Given::Variable(value), place),
            None => {
                let refusal = Refusal::new("its value is not text", "set it in UTF-8");
                draft.problems.push(refusal.at(place, KEYS[index].path()));
            }
        }
    }
}

fn unknown(name: &str) -> Refusal {
    let known: Vec<String> = KEYS.iter().map(|key| key.variable()).collect();
    let what = "there is no such variable";
    let list = known.join(", ");
    // Only what follows the prefix tells them apart.
    let tails = known.iter().filter_map(|known| known.strip_prefix(PREFIX));
    match nearest(name.trim_start_matches(PREFIX), tails) {
        Some(meant) => Refusal::new(
            what,
            format!("did you mean {PREFIX}{meant}? There are: {list}"),
        ),
        None => Refusal::new(what, format!("unset it; there are: {list}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn applied(variables: &[(&str, &str)]) -> Draft {
        let mut draft = Draft::read("[engine]\nburst = 16\nidle = \"spin\"\n");
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        apply(variables, &mut draft);
        draft
    }

    #[test]
    fn variables_take_precedence_over_the_file() {
        let draft = applied(&[
            ("LINECARD_ENGINE_BURST", "64"),
            ("LINECARD_ENGINE_LCORES", "2,4-5"),
            ("LINECARD_POOL_SIZE", "4096"),
            ("LINECARD_FORWARD_MODE", "macswap"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(draft.problems, []);
        assert_eq!(draft.settings.engine.burst, 64);
        assert_eq!(draft.settings.engine.lcores, Some(vec![2, 4, 5]));
        assert_eq!(draft.settings.engine.pool_size, Some(4096));
        assert_eq!(draft.settings.mode.name(), "macswap");
        let burst = Place::Variable("LINECARD_ENGINE_BURST".to_owned());
        assert_eq!(draft.origin("engine", "burst"), &burst);
        assert_eq!(draft.origin("engine", "idle"), &Place::Line(3));
        assert_eq!(draft.origin("engine", "workers"), &Place::Default);
    }

    #[test]
    fn unknown_variables_are_refused_with_the_list() {
        let draft = applied(&[("LINECARD_ENGINE_BRUST", "64"), ("LINECARD_COLOUR", "1")]);
        let [brust, colour] = draft.problems.as_slice() else {
            panic!("{:?}", draft.problems)
        };
        assert_eq!(brust.place.to_string(), "LINECARD_ENGINE_BRUST");
        assert!(
            brust.remedy.contains("did you mean LINECARD_ENGINE_BURST?"),
            "{brust:?}"
        );
        assert!(
            colour.remedy.contains("LINECARD_FORWARD_FRAME_SIZE"),
            "{colour:?}"
        );
    }

    #[test]
    fn variables_with_another_meaning_are_left_alone() {
        assert_eq!(applied(&[("LINECARD_LOG", "debug")]).problems, []);
    }

    #[test]
    fn bad_values_name_the_variable_and_leave_the_file_s() {
        for value in ["0", "many", ""] {
            let draft = applied(&[("LINECARD_ENGINE_BURST", value)]);
            let [problem] = draft.problems.as_slice() else {
                panic!("{:?}", draft.problems)
            };
            assert_eq!(problem.place.to_string(), "LINECARD_ENGINE_BURST");
            assert!(problem.what.contains(&format!("{value:?}")), "{problem:?}");
            assert_eq!(draft.settings.engine.burst, 16);
        }
        let mut draft = Draft::default();
        let broken = OsString::from_vec(vec![0xff]);
        apply([("LINECARD_POOL_SIZE".into(), broken)], &mut draft);
        assert!(
            draft.problems[0].remedy.contains("UTF-8"),
            "{:?}",
            draft.problems
        );
    }
}
