//! A piece of a pipeline as a file describes it: a launch line of names, and properties set one by one.

use std::{collections::BTreeMap, path::PathBuf};

use gst::prelude::*;
use serde::Deserialize;

use crate::effect::launch::LaunchElement;

/// Elements joined by `!`, and what is set on them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// Elements joined by `!`. Values are never pasted into it.
    pub(super) launch: String,
    /// Elements that must be installed.
    pub(super) requires: Vec<String>,
    /// Files that must be there.
    #[serde(default)]
    pub(super) files: Vec<PathBuf>,
    /// Debian packages that have them.
    pub(super) packages: Vec<String>,
    /// Element name → property → value.
    #[serde(default)]
    properties: BTreeMap<String, BTreeMap<String, toml::Value>>,
}

impl Fragment {
    /// Elements of `requires`, and files, that are not installed.
    pub(super) fn missing(&self) -> Vec<String> {
        let elements = self.requires.iter().filter(|name| gst::ElementFactory::find(name).is_none()).cloned();
        let files = self.files.iter().filter(|path| !path.exists()).map(|path| path.display().to_string());
        elements.chain(files).collect()
    }

    /// Builds it, with its free ends as ghost pads.
    pub(super) fn build(&self) -> Result<gst::Bin, String> {
        let bin = gst::parse::bin_from_description(&self.launch, true)
            .map_err(|error| format!("`pipeline.launch`: {}", error.message()))?;
        self.set_properties(&bin)?;
        Ok(bin)
    }

    /// As [`build`](Self::build), for one way in and one way out. Inputs that some elements have for
    /// subtitles are left alone.
    pub(super) fn build_through(&self) -> Result<gst::Bin, String> {
        let bin = gst::parse::bin_from_description(&self.launch, false)
            .map_err(|error| format!("`pipeline.launch`: {}", error.message()))?;
        for (name, direction) in [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)] {
            let pads = bin.iterate_elements().into_iter().flatten().flat_map(|element| element.pads());
            let is_end = |pad: &gst::Pad| pad.direction() == direction && !pad.is_linked() && pad.name() != "text_sink";
            let ends: Vec<gst::Pad> = pads.filter(is_end).collect();
            let [end] = &ends[..] else {
                return Err(format!("`pipeline.launch`: it has {} ends of kind {name}, and not one", ends.len()));
            };
            let ghost = gst::GhostPad::builder_with_target(end).map_err(|error| error.to_string())?.name(name).build();
            bin.add_pad(&ghost).map_err(|error| error.to_string())?;
        }
        self.set_properties(&bin)?;
        Ok(bin)
    }

    fn set_properties(&self, bin: &gst::Bin) -> Result<(), String> {
        for (element, properties) in &self.properties {
            for (property, value) in properties {
                set(bin, element, property, value)?;
            }
        }
        Ok(())
    }
}

/// Elements in a row, as a client's launch line has them: each made by its name, each value set as a
/// property after it was checked like those of files.
pub(super) fn of_client(elements: &[LaunchElement]) -> Result<gst::Bin, String> {
    let bin = gst::Bin::new();
    let mut row = Vec::new();
    for (index, LaunchElement { factory, properties }) in elements.iter().enumerate() {
        let is_picture = gst::ElementFactory::find(factory).is_some_and(|found| {
            found.static_pad_templates().iter().any(|pad| pad.caps().to_string().starts_with("video"))
        });
        let convert = if is_picture { "videoconvert" } else { "audioconvert" };
        let name = format!("client{index}");
        let made =
            |factory: &str| gst::ElementFactory::make(factory).build().map_err(|_| format!("not installed: {factory}"));
        let (convert, element) = (made(convert)?, made(factory)?);
        element.set_property("name", &name);
        bin.add_many([&convert, &element]).map_err(|error| error.to_string())?;
        for (property, value) in properties {
            // Pango obeys markup: a text is a text.
            let text = if *property == "text" { gst::glib::markup_escape_text(value).into() } else { value.clone() };
            set(&bin, &name, property, &toml::Value::String(text))
                .map_err(|problem| problem.replace(&format!("`{name}."), &format!("`{factory}.")))?;
        }
        row.extend([convert, element]);
    }
    gst::Element::link_many(&row).map_err(|error| error.to_string())?;
    let ends = [("sink", row.first()), ("src", row.last())];
    for (name, end) in ends {
        let pad =
            end.and_then(|end| end.static_pad(name)).ok_or_else(|| "a launch line without elements".to_owned())?;
        let ghost = gst::GhostPad::builder_with_target(&pad).map_err(|error| error.to_string())?.name(name).build();
        bin.add_pad(&ghost).map_err(|error| error.to_string())?;
    }
    Ok(bin)
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
        // Some elements have the two the wrong way round.
        && class.value_by_name(&text).is_none()
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
        // As it is written: the nearest to 0.1 that fits in 32 bits is not 0.1.
        let written = |end: f32| end.to_string().parse().unwrap_or(f64::from(end));
        Some((written(spec.minimum()), written(spec.maximum())))
    } else {
        spec.downcast_ref::<glib::ParamSpecDouble>().map(|spec| (spec.minimum(), spec.maximum()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::launch;

    #[test]
    fn what_a_launch_line_may_say_can_be_set() {
        gst::init().unwrap();
        let mut refused = Vec::new();
        for (element, kind, line) in launch::every_line() {
            let elements = launch::parse_launch(&line, kind).expect(&line);
            if gst::ElementFactory::find(element).is_some()
                && let Err(problem) = of_client(&elements)
            {
                refused.push(format!("{line}: {problem}"));
            }
        }
        assert_eq!(refused, [""; 0]);
    }
}
