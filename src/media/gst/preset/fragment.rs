//! A piece of a pipeline as a file describes it: a launch line of names, and properties set one by one.

use std::collections::BTreeMap;

use gst::prelude::*;
use serde::Deserialize;

/// Elements joined by `!`, and what is set on them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// Elements joined by `!`. Values are never pasted into it.
    pub(super) launch: String,
    /// Elements that must be installed.
    pub(super) requires: Vec<String>,
    /// Debian packages that have them.
    pub(super) packages: Vec<String>,
    /// Element name → property → value.
    #[serde(default)]
    properties: BTreeMap<String, BTreeMap<String, toml::Value>>,
}

impl Fragment {
    /// Elements of `requires` that are not installed.
    pub(super) fn missing(&self) -> Vec<&str> {
        let installed = |name: &&String| gst::ElementFactory::find(name).is_some();
        self.requires.iter().filter(|name| !installed(name)).map(String::as_str).collect()
    }

    /// Builds it, with its free ends as ghost pads.
    pub(super) fn build(&self) -> Result<gst::Bin, String> {
        let bin = gst::parse::bin_from_description(&self.launch, true)
            .map_err(|error| format!("`pipeline.launch`: {}", error.message()))?;
        for (element, properties) in &self.properties {
            for (property, value) in properties {
                set(&bin, element, property, value)?;
            }
        }
        Ok(bin)
    }
}

/// Sets a property of a named element, if it exists and the value is of its type and in its range.
pub(super) fn set(bin: &gst::Bin, element: &str, property: &str, value: &toml::Value) -> Result<(), String> {
    let key = format!("`{element}.{property}`");
    let target = bin.by_name(element).ok_or_else(|| format!("{key}: there is no element of that name"))?;
    let spec = target.find_property(property).ok_or_else(|| format!("{key}: there is no such property"))?;
    if !spec.flags().contains(gst::glib::ParamFlags::WRITABLE) {
        return Err(format!("{key}: it cannot be set"));
    }
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
        _ => return Err(format!("{key}: it takes a text, a number or a bool")),
    };
    let wrong_type = || format!("{key}: `{text}` is not a {}", spec.value_type().name());
    let value = gst::glib::Value::deserialize_with_pspec(&text, &spec).map_err(|_| wrong_type())?;
    // GStreamer takes any number for an enumeration, and an empty text for 0.
    if let Some(class) = gst::glib::EnumClass::with_type(spec.value_type())
        && class.value_by_nick(&text).is_none()
    {
        return Err(wrong_type());
    }
    if let Some((least, most)) = range(&spec)
        && !text.parse().is_ok_and(|number: f64| (least..=most).contains(&number))
    {
        return Err(format!("{key}: `{text}` is not between {least} and {most}"));
    }
    target.set_property_from_value(property, &value);
    Ok(())
}

/// Smallest and largest value of a property that is a number. GLib would panic beyond them.
fn range(spec: &gst::glib::ParamSpec) -> Option<(f64, f64)> {
    use gst::glib;
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt>() {
        Some((spec.minimum().into(), spec.maximum().into()))
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
        Some((spec.minimum().into(), spec.maximum().into()))
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt64>() {
        Some((spec.minimum() as f64, spec.maximum() as f64))
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt64>() {
        Some((spec.minimum() as f64, spec.maximum() as f64))
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecFloat>() {
        Some((spec.minimum().into(), spec.maximum().into()))
    } else {
        spec.downcast_ref::<glib::ParamSpecDouble>().map(|spec| (spec.minimum(), spec.maximum()))
    }
}
