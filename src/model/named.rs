//! The macro behind the tables of names that the kernel prints: an enum, its names, and one value per name.
//!
//! A misspelt name does not compile, and `collect` reads exactly what a table lists.

/// Declares an enum of names and an array-backed map from it: `named! { /// .. Key, Values of u64 { Variant "name";
/// } }`.
macro_rules! named {
    (
        $(#[$key_doc:meta])* $Key:ident,
        $(#[$values_doc:meta])* $Values:ident of $Value:ty {
            $($(#[$doc:meta])* $Variant:ident $name:literal;)*
        }
    ) => {
        $(#[$key_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $Key {
            $($(#[$doc])* #[doc = concat!("`", $name, "`")] $Variant,)*
        }

        impl $Key {
            pub const ALL: &[$Key] = &[$($Key::$Variant,)*];

            /// As the kernel spells it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($Key::$Variant => $name,)*
                }
            }

            #[must_use]
            pub fn from_name(name: &str) -> Option<$Key> {
                match name {
                    $($name => Some($Key::$Variant),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $Key {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        $(#[$values_doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $Values([Option<$Value>; $Key::ALL.len()]);

        impl Default for $Values {
            fn default() -> $Values {
                $Values([const { None }; $Key::ALL.len()])
            }
        }

        impl $Values {
            #[must_use]
            pub fn get(&self, key: $Key) -> Option<&$Value> {
                self.0[key as usize].as_ref()
            }

            pub fn insert(&mut self, key: $Key, value: $Value) {
                self.0[key as usize] = Some(value);
            }

            pub fn remove(&mut self, key: $Key) {
                self.0[key as usize] = None;
            }

            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.iter().all(Option::is_none)
            }
        }

        impl FromIterator<($Key, $Value)> for $Values {
            fn from_iter<I: IntoIterator<Item = ($Key, $Value)>>(pairs: I) -> $Values {
                let mut values = $Values::default();
                for (key, value) in pairs {
                    values.insert(key, value);
                }
                values
            }
        }
    };
}

pub(crate) use named;
