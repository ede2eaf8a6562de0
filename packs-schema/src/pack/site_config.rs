//! Site configuration of a pack: values of one host (`<pack>.yaml`), typed by the pack's `config.schema.yaml`.
//!
//! ```text
//!  <pack>.yaml ──read──▶ SiteConfig ──▶ two files of the store ──new──▶ SiteConfig ──deliver──▶ environment, stdin
//!  (sync, or `bolt pack test`)          (public; secrets, mode 0600)    (launcher)
//! ```

use serde_json::{Map, Value};

use super::param::Parameters;
#[cfg(feature = "yaml")]
use super::param::bind::bind_config;

/// Site configuration, split into public values and secrets. A name is in one of the two parts only.
#[derive(Clone, Default, PartialEq)]
pub struct SiteConfig {
    public: Map<String, Value>,
    secrets: Map<String, Value>,
}

impl SiteConfig {
    /// Joins the two stored parts. They are not replaced in one step, so a name that is in both is a secret.
    pub fn new(mut public: Map<String, Value>, secrets: Map<String, Value>) -> SiteConfig {
        public.retain(|name, _| !secrets.contains_key(name));
        SiteConfig { public, secrets }
    }

    /// Parses the text of a site's file and binds its values, with the defaults of `schema`; no text is an empty map.
    ///
    /// The error names keys and expected types, never values: the file may hold secrets.
    #[cfg(feature = "yaml")]
    pub fn read(schema: &Parameters, text: &[u8]) -> Result<SiteConfig, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
        let given = match crate::base::document::yaml::parse::<Value>(text).map_err(|e| e.without_values())? {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            _ => return Err("it must be a map of names to values".to_owned()),
        };
        let bound = bind_config(schema, &given).map_err(|errors| {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ").replace('\n', " ")
        })?;
        let is_public = |name: &str| schema.iter().any(|(known, s)| known.as_str() == name && !s.holds_secret());
        let (public, secrets) = bound.values().clone().into_iter().partition(|(name, _)| is_public(name));
        Ok(SiteConfig { public, secrets })
    }

    /// Values that are neither secret nor hold a secret.
    pub fn public(&self) -> &Map<String, Value> {
        &self.public
    }

    /// Values that are secret or hold a secret.
    pub fn secrets(&self) -> &Map<String, Value> {
        &self.secrets
    }

    /// All values.
    pub(super) fn merged(&self) -> Map<String, Value> {
        self.public.clone().into_iter().chain(self.secrets.clone()).collect()
    }
}

/// Prints no secrets.
impl std::fmt::Debug for SiteConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteConfig").field("public", &self.public).finish_non_exhaustive()
    }
}
