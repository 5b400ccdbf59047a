//! What a document of a capture holds: one line for each type of the model, one word for each variant.
//!
//! Input: a value of the model. Output: JSON, and the value back. A field that the table of a type lacks does not compile.
//! `None`, and a list without entries, are left out; a key that is missing reads as such, so a later version may add fields.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value as Json};

use crate::model::{Endpoint, Inode, NetnsId};

/// Why a document is not what it should be.
pub(super) type Refused = String;

/// A value that documents hold.
pub(super) trait Document: Sized {
    fn to_json(&self) -> Json;

    fn from_json(json: &Json) -> Result<Self, Refused>;

    /// The value of a key that is not there.
    fn absent() -> Option<Self> {
        None
    }

    /// Whether the key is left out.
    fn is_absent(&self) -> bool {
        false
    }
}

/// Reads a field of an object.
pub(super) fn field<T: Document>(object: &Json, key: &str) -> Result<T, Refused> {
    match object.get(key) {
        Some(json) => T::from_json(json).map_err(|why| format!("{key}: {why}")),
        None => T::absent().ok_or_else(|| format!("`{key}` is missing")),
    }
}

/// Reads a count that older captures lack; it is 0 there, although it is not known.
pub(super) fn added<T: Document + Default>(object: &Json, key: &str) -> Result<T, Refused> {
    if object.get(key).is_some() { field(object, key) } else { Ok(T::default()) }
}

/// Writes a field of an object.
pub(super) fn put<T: Document>(object: &mut Map<String, Json>, key: &str, value: &T) {
    if !value.is_absent() {
        object.insert(key.to_owned(), value.to_json());
    }
}

/// The documents of structs: `structs! { Type { field, other; count } }`. Fields are written under their own names; counts behind
/// the semicolon may be missing.
macro_rules! structs {
    ($($Type:ident { $($field:ident),* $(,)? $(; $($added:ident),*)? })*) => {
        $(impl $crate::capture::document::Document for $Type {
            fn to_json(&self) -> serde_json::Value {
                // All fields by name: a new one must be written too.
                let $Type { $($field,)* $($($added,)*)? } = self;
                let mut object = serde_json::Map::new();
                $($crate::capture::document::put(&mut object, stringify!($field), $field);)*
                $($($crate::capture::document::put(&mut object, stringify!($added), $added);)*)?
                serde_json::Value::Object(object)
            }

            fn from_json(json: &serde_json::Value) -> Result<$Type, $crate::capture::document::Refused> {
                Ok($Type {
                    $($field: $crate::capture::document::field(json, stringify!($field))?,)*
                    $($($added: $crate::capture::document::added(json, stringify!($added))?,)*)?
                })
            }
        })*
    };
}

/// The documents of enums: a word, or an object with a word and the values: `enums! { Type { Word = "word", Tuple(value) =
/// "tuple", Struct { field } = "struct" } }`.
macro_rules! enums {
    ($($Type:ident { $($Variant:ident $(($value:ident))? $({ $($field:ident),* })? = $word:literal),* $(,)? })*) => {
        $(impl $crate::capture::document::Document for $Type {
            fn to_json(&self) -> serde_json::Value {
                let mut object = serde_json::Map::new();
                let word = match self {
                    $($Type::$Variant $(($value))? $({ $($field),* })? => {
                        $($crate::capture::document::put(&mut object, "value", $value);)?
                        $($($crate::capture::document::put(&mut object, stringify!($field), $field);)*)?
                        $word
                    })*
                };
                if object.is_empty() {
                    return word.into();
                }
                object.insert("is".into(), word.into());
                serde_json::Value::Object(object)
            }

            fn from_json(json: &serde_json::Value) -> Result<$Type, $crate::capture::document::Refused> {
                let word = json.as_str().or_else(|| json.get("is")?.as_str());
                match word {
                    $(Some($word) => {
                        $(let $value = $crate::capture::document::field(json, "value")?;)?
                        $($(let $field = $crate::capture::document::field(json, stringify!($field))?;)*)?
                        Ok($Type::$Variant $(($value))? $({ $($field),* })?)
                    })*
                    _ => Err(format!("{json} is no {}", stringify!($Type))),
                }
            }
        })*
    };
}

pub(super) use {enums, structs};

macro_rules! unsigned {
    ($($Type:ty)*) => {
        $(impl Document for $Type {
            fn to_json(&self) -> Json {
                (*self).into()
            }

            fn from_json(json: &Json) -> Result<$Type, Refused> {
                let number = json.as_u64().and_then(|n| <$Type>::try_from(n).ok());
                number.ok_or_else(|| format!("{json} is not a number from 0 to {}", <$Type>::MAX))
            }
        })*
    };
}

unsigned! { u8 u16 u32 u64 }

impl Document for u128 {
    fn to_json(&self) -> Json {
        u64::try_from(*self).unwrap_or(u64::MAX).into()
    }

    fn from_json(json: &Json) -> Result<u128, Refused> {
        u64::from_json(json).map(u128::from)
    }
}

impl Document for usize {
    fn to_json(&self) -> Json {
        (*self).into()
    }

    fn from_json(json: &Json) -> Result<usize, Refused> {
        usize::try_from(u64::from_json(json)?).map_err(|e| e.to_string())
    }
}

impl Document for i32 {
    fn to_json(&self) -> Json {
        (*self).into()
    }

    fn from_json(json: &Json) -> Result<i32, Refused> {
        json.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| format!("{json} is no errno"))
    }
}

impl Document for f64 {
    fn to_json(&self) -> Json {
        (*self).into()
    }

    fn from_json(json: &Json) -> Result<f64, Refused> {
        json.as_f64().ok_or_else(|| format!("{json} is not a number"))
    }
}

impl Document for bool {
    fn to_json(&self) -> Json {
        (*self).into()
    }

    fn from_json(json: &Json) -> Result<bool, Refused> {
        json.as_bool().ok_or_else(|| format!("{json} is neither true nor false"))
    }

    fn absent() -> Option<bool> {
        Some(false)
    }

    fn is_absent(&self) -> bool {
        !self
    }
}

impl Document for String {
    fn to_json(&self) -> Json {
        self.as_str().into()
    }

    fn from_json(json: &Json) -> Result<String, Refused> {
        json.as_str().map(str::to_owned).ok_or_else(|| format!("{json} is no text"))
    }
}

impl Document for char {
    fn to_json(&self) -> Json {
        self.to_string().into()
    }

    fn from_json(json: &Json) -> Result<char, Refused> {
        let mut letters = json.as_str().unwrap_or_default().chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) => Ok(letter),
            _ => Err(format!("{json} is not one letter")),
        }
    }
}

/// In a list, where a place cannot be left out, `None` is null.
impl<T: Document> Document for Option<T> {
    fn to_json(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::to_json)
    }

    fn from_json(json: &Json) -> Result<Option<T>, Refused> {
        if json.is_null() { Ok(None) } else { T::from_json(json).map(Some) }
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Document> Document for Vec<T> {
    fn to_json(&self) -> Json {
        Json::Array(self.iter().map(T::to_json).collect())
    }

    fn from_json(json: &Json) -> Result<Vec<T>, Refused> {
        json.as_array().ok_or_else(|| format!("{json} is no list"))?.iter().map(T::from_json).collect()
    }

    fn absent() -> Option<Vec<T>> {
        Some(Vec::new())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// A map is a list of pairs: its keys are more than words.
impl<K: Document + Ord, V: Document> Document for BTreeMap<K, V> {
    fn to_json(&self) -> Json {
        Json::Array(self.iter().map(|(key, value)| Json::Array(vec![key.to_json(), value.to_json()])).collect())
    }

    fn from_json(json: &Json) -> Result<BTreeMap<K, V>, Refused> {
        Ok(Vec::<(K, V)>::from_json(json)?.into_iter().collect())
    }

    fn absent() -> Option<BTreeMap<K, V>> {
        Some(BTreeMap::new())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<A: Document, B: Document> Document for (A, B) {
    fn to_json(&self) -> Json {
        Json::Array(vec![self.0.to_json(), self.1.to_json()])
    }

    fn from_json(json: &Json) -> Result<(A, B), Refused> {
        match json.as_array().map(Vec::as_slice) {
            Some([a, b]) => Ok((A::from_json(a)?, B::from_json(b)?)),
            _ => Err(format!("{json} is no pair")),
        }
    }
}

impl Document for NetnsId {
    fn to_json(&self) -> Json {
        self.get().into()
    }

    fn from_json(json: &Json) -> Result<NetnsId, Refused> {
        NetnsId::new(u64::from_json(json)?).ok_or_else(|| "an inode is not 0".into())
    }
}

impl Document for Inode {
    fn to_json(&self) -> Json {
        self.get().into()
    }

    fn from_json(json: &Json) -> Result<Inode, Refused> {
        Inode::new(u64::from_json(json)?).ok_or_else(|| "an inode is not 0".into())
    }
}

impl Document for IpAddr {
    fn to_json(&self) -> Json {
        self.to_string().into()
    }

    fn from_json(json: &Json) -> Result<IpAddr, Refused> {
        json.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("{json} is no address"))
    }
}

/// `10.0.0.1:443`, `[::1]:443`.
impl Document for Endpoint {
    fn to_json(&self) -> Json {
        SocketAddr::new(self.addr, self.port).to_string().into()
    }

    fn from_json(json: &Json) -> Result<Endpoint, Refused> {
        let found = json.as_str().and_then(|text| text.parse::<SocketAddr>().ok());
        found.map(Endpoint::from).ok_or_else(|| format!("{json} is no address and port"))
    }
}

/// Changes that turn one document into another, as RFC 7396 describes them: null removes a key. `None`: they are equal.
pub(super) fn patch(from: &Json, to: &Json) -> Option<Json> {
    let (Json::Object(old), Json::Object(new)) = (from, to) else {
        return (from != to).then(|| to.clone());
    };
    let mut changes = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        changes.insert(key.clone(), Json::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(before) => changes.extend(patch(before, value).map(|change| (key.clone(), change))),
            None => {
                changes.insert(key.clone(), value.clone());
            }
        }
    }
    (!changes.is_empty()).then_some(Json::Object(changes))
}

/// Applies such changes.
pub(super) fn apply(to: &mut Json, change: Json) {
    let Json::Object(changes) = change else {
        *to = change;
        return;
    };
    if !to.is_object() {
        *to = Json::Object(Map::new());
    }
    let Json::Object(object) = to else { return };
    for (key, change) in changes {
        if change.is_null() {
            object.shift_remove(&key);
        } else {
            apply(object.entry(key).or_insert(Json::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_turns_one_document_into_the_other() {
        let documents = [
            json!({}),
            json!({ "a": 1, "b": { "c": [1, null], "d": "x" } }),
            json!({ "a": 2, "b": { "c": [1, null] } }),
            json!({ "b": { "c": [], "e": { "f": {} } } }),
            json!({ "b": 7 }),
        ];
        for from in &documents {
            for to in &documents {
                let mut changed = from.clone();
                match patch(from, to) {
                    Some(change) => apply(&mut changed, change),
                    None => assert_eq!(from, to),
                }
                assert_eq!(&changed, to, "from {from}");
            }
        }
    }

    #[test]
    fn numbers_out_of_range_and_words_of_others_are_refused() {
        assert!(u8::from_json(&json!(256)).is_err() && u8::from_json(&json!(-1)).is_err());
        assert!(char::from_json(&json!("RS")).is_err() && char::from_json(&json!("")).is_err());
        assert!(NetnsId::from_json(&json!(0)).is_err());
        assert!(Endpoint::from_json(&json!("10.0.0.1")).is_err());
        assert_eq!(Endpoint::from_json(&json!("[::1]:0")), Ok(Endpoint::new("::1".parse().unwrap(), 0)));
    }
}
