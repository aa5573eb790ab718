//! Chains of effects: what a client asks for, checked against the catalogue.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use super::{
    catalogue::{Effect, Value},
    picture::Picture,
};
use crate::media::Kind;

/// Effects of one kind in a chain.
pub const MAX_CHAIN: usize = 8;
/// Characters of a client's text that come back in an error.
const MAX_ECHO_CHARS: usize = 40;

/// An effect as a client asks for it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectRequest {
    /// Which.
    pub name: String,
    /// What is left out takes its default.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub params: serde_json::Map<String, serde_json::Value>,
}

/// An effect of a chain, with all of its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Applied {
    /// Which.
    pub name: String,
    /// All of them.
    pub params: BTreeMap<String, Value>,
}

/// A chain that cannot be.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum EffectError {
    /// No such effect here.
    #[error("there is no effect `{0}` on this server; GET /api/effects lists those there are")]
    Unknown(String),
    /// An effect on sound for a picture, or the other way round.
    #[error("`{effect}` is not for {}", if *kind == Kind::Video { "a picture" } else { "sound" })]
    OtherKind {
        /// Which.
        effect: String,
        /// Of the track.
        kind: Kind,
    },
    /// A parameter that is none, or out of its range.
    #[error("`{effect}`: `{parameter}` {problem}")]
    Parameter {
        /// Of which effect.
        effect: String,
        /// Which.
        parameter: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// More than may be.
    #[error("at most {MAX_CHAIN} effects on pictures and {MAX_CHAIN} on sound")]
    TooMany,
    /// The room has as many effects as it may.
    #[error("the room's effects would cost {would} points of at most {most}; take another one off first")]
    OverBudget {
        /// With this chain.
        would: u32,
        /// The room's budget.
        most: u32,
    },
}

/// Fills in defaults and checks everything, in order. `pictures`: those that were given to the room.
///
/// # Errors
/// The first that is wrong.
pub fn resolve(
    chain: &[EffectRequest],
    catalogue: &[Effect],
    pictures: &[Arc<Picture>],
) -> Result<Vec<Applied>, EffectError> {
    // Before anything is looked up: a client may send as many as fit into a request.
    if chain.len() > 2 * MAX_CHAIN {
        return Err(EffectError::TooMany);
    }
    let chain = chain.iter().map(|request| apply(request, catalogue, pictures)).collect::<Result<Vec<_>, _>>()?;
    let too_many = |kind| of_kind(&chain, kind, catalogue).len() > MAX_CHAIN;
    if too_many(Kind::Video) || too_many(Kind::Audio) {
        return Err(EffectError::TooMany);
    }
    Ok(chain)
}

fn apply(request: &EffectRequest, catalogue: &[Effect], pictures: &[Arc<Picture>]) -> Result<Applied, EffectError> {
    let effect = find(&request.name, catalogue).ok_or_else(|| EffectError::Unknown(shortened(&request.name)))?;
    let wrong = |parameter: &str, problem: String| EffectError::Parameter {
        effect: effect.name.clone(),
        parameter: shortened(parameter),
        problem,
    };
    if let Some(unknown) = request.params.keys().find(|name| effect.parameter(name).is_none()) {
        return Err(wrong(unknown, "is not one of its parameters".into()));
    }
    let params = effect.parameters.iter().map(|parameter| {
        let value = match request.params.get(&parameter.name).filter(|value| !value.is_null()) {
            Some(value) => parameter.range.take(value, pictures).map_err(|problem| wrong(&parameter.name, problem))?,
            None => parameter.range.default(),
        };
        Ok((parameter.name.clone(), value))
    });
    Ok(Applied { name: effect.name.clone(), params: params.collect::<Result<_, _>>()? })
}

/// The pictures of the room that a chain shows.
pub fn pictures_in(chain: &[Applied]) -> impl Iterator<Item = &Arc<Picture>> {
    chain.iter().flat_map(|applied| applied.params.values()).filter_map(|value| match value {
        Value::Picture(picture) => Some(picture),
        _ => None,
    })
}

/// Those of a chain that are of this kind, in order.
pub fn of_kind(chain: &[Applied], kind: Kind, catalogue: &[Effect]) -> Vec<Applied> {
    let is_kind = |applied: &&Applied| find(&applied.name, catalogue).is_some_and(|effect| effect.kind == kind);
    chain.iter().filter(is_kind).cloned().collect()
}

/// If all that differs are parameters that change while an effect runs: which of the effects, and all
/// parameters of that one. `None`: the chain has to be made anew.
pub fn changed_live<'a>(
    before: &[Applied],
    after: &'a [Applied],
    catalogue: &[Effect],
) -> Option<Vec<(usize, &'a BTreeMap<String, Value>)>> {
    if before.len() != after.len() {
        return None;
    }
    let mut changed = Vec::new();
    for (index, (old, new)) in before.iter().zip(after).enumerate() {
        let effect = find(&new.name, catalogue).filter(|effect| effect.name == old.name)?;
        let differs = |name: &String| old.params.get(name) != new.params.get(name);
        if effect.parameters.iter().any(|parameter| !parameter.live && differs(&parameter.name)) {
            return None;
        }
        if old.params != new.params {
            changed.push((index, &new.params));
        }
    }
    Some(changed)
}

fn find<'a>(name: &str, catalogue: &'a [Effect]) -> Option<&'a Effect> {
    catalogue.iter().find(|effect| effect.name == name)
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_ECHO_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::effect::{Cost, Parameter, Range, Title};

    fn catalogue() -> Vec<Effect> {
        let title = || Title { en: "A".into(), ko: "가".into() };
        let number = Range::Number { min: 0.0, max: 1.0, step: None, unit: None, default: 0.5 };
        let parameter = |name: &str, live| Parameter { name: name.into(), title: title(), range: number.clone(), live };
        let effect = |name: &str, kind| Effect {
            name: name.into(),
            kind,
            title: title(),
            preview: None,
            cost: Cost::Low,
            events: vec![],
            parameters: vec![parameter("soft", true), parameter("hard", false)],
            shown: serde_json::Map::new(),
        };
        vec![effect("blur", Kind::Video), effect("echo", Kind::Audio)]
    }

    fn asked(chain: serde_json::Value) -> Result<Vec<Applied>, EffectError> {
        resolve(&serde_json::from_value::<Vec<EffectRequest>>(chain).unwrap(), &catalogue(), &[])
    }

    #[test]
    fn what_is_left_out_takes_its_default() {
        let chain = asked(json!([{"name": "blur", "params": {"soft": 1, "hard": null}}, {"name": "echo"}])).unwrap();
        let values: Vec<_> = chain.iter().map(|applied| applied.params.values().cloned().collect::<Vec<_>>()).collect();
        let [half, one] = [0.5, 1.0].map(Value::Number);
        assert_eq!(values, [vec![half.clone(), one], vec![half.clone(), half]]);
        assert_eq!(of_kind(&chain, Kind::Audio, &catalogue()), chain[1..]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |chain| asked(chain).unwrap_err().to_string();
        assert!(message(json!([{"name": "filesrc location=/etc/passwd"}])).starts_with("there is no effect `filesrc"));
        assert_eq!(
            message(json!([{"name": "blur", "params": {"soft": 2}}])),
            "`blur`: `soft` must be a number from 0 to 1"
        );
        assert_eq!(
            message(json!([{"name": "blur", "params": {"location": "x"}}])),
            "`blur`: `location` is not one of its parameters"
        );
        let nine: Vec<_> = (0..9).map(|_| json!({"name": "blur"})).collect();
        assert_eq!(asked(json!(nine)), Err(EffectError::TooMany));
        let eight_each: Vec<_> = (0..16).map(|i| json!({"name": if i % 2 == 0 { "blur" } else { "echo" }})).collect();
        assert_eq!(asked(json!(eight_each)).unwrap().len(), 16);
        assert!(serde_json::from_value::<EffectRequest>(json!({"name": "blur", "launch": "x"})).is_err());
    }

    #[test]
    fn only_what_may_change_live_does() {
        let with =
            |soft: f64, hard: f64| asked(json!([{"name": "blur", "params": {"soft": soft, "hard": hard}}])).unwrap();
        let catalogue = catalogue();
        let after = with(0.2, 0.5);
        let changed = changed_live(&with(0.1, 0.5), &after, &catalogue).unwrap();
        assert_eq!(changed, [(0, &after[0].params)]);
        assert_eq!(changed_live(&after, &after, &catalogue), Some(vec![]));
        assert_eq!(changed_live(&with(0.1, 0.1), &after, &catalogue), None);
        assert_eq!(changed_live(&[], &after, &catalogue), None);
        assert_eq!(changed_live(&asked(json!([{"name": "echo"}])).unwrap(), &after, &catalogue), None);
    }
}
