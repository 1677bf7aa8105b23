//! Environment variables in every form that clients use.

use std::collections::BTreeMap;

use impuls_domain::Environment;
use serde_json::Value;

use crate::errors::Refusal;

/// Reads `env_vars`: an object, a list of `[name, value]`, or a list of `"NAME=value"`.
pub(crate) fn environment(value: Option<&Value>) -> Result<Environment, Refusal> {
    let mut variables = BTreeMap::new();
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Object(members)) => {
            for (name, value) in members {
                variables.insert(name.clone(), text(value)?.to_owned());
            }
        }
        Some(Value::Array(entries)) => {
            for entry in entries {
                let (name, value) = pair(entry)?;
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => return Err(shape()),
    }
    Environment::new(variables).map_err(|error| Refusal::invalid("env_vars", error))
}

fn pair(entry: &Value) -> Result<(&str, &str), Refusal> {
    match entry {
        Value::String(line) => line.split_once('=').ok_or_else(shape),
        Value::Array(parts) => match parts.as_slice() {
            [name, value] => Ok((text(name)?, text(value)?)),
            _ => Err(shape()),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(shape()),
    }
}

fn text(value: &Value) -> Result<&str, Refusal> {
    value.as_str().ok_or_else(shape)
}

fn shape() -> Refusal {
    Refusal::invalid(
        "env_vars",
        "give an object of texts, a list of [name, value] or a list of \"NAME=value\"",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn three_forms_mean_the_same() {
        let expected = environment(Some(&json!({"A": "1", "B": "x=y"}))).unwrap();
        assert_eq!(environment(Some(&json!([["A", "1"], ["B", "x=y"]]))).unwrap(), expected);
        assert_eq!(environment(Some(&json!(["A=1", "B=x=y"]))).unwrap(), expected);
        assert!(environment(None).unwrap().variables().is_empty());
    }

    #[test]
    fn other_forms_are_refused_with_the_field() {
        for value in [json!("A=1"), json!(["A"]), json!([["A"]]), json!({"A": 1}), json!(["=x"]), json!(7)] {
            let refusal = environment(Some(&value)).unwrap_err();
            assert!(refusal.message().starts_with("env_vars: "), "{value}: {}", refusal.message());
        }
    }
}
