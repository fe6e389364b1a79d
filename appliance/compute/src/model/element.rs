//! XML as libvirt speaks it: elements with attributes, and either text or further elements. What is read is kept whole,
//! what nobody here knows of included, so that it can be written back.

use quick_xml::{
    Reader, Writer, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesEnd, BytesStart, BytesText, Event},
};

/// How deep elements may lie in each other.
const DEEPEST: usize = 64;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Its name.
    pub name: String,
    /// Its attributes, in order.
    pub attributes: Vec<(String, String)>,
    /// The elements in it.
    pub children: Vec<Element>,
    /// The text in it, where no elements are.
    pub text: String,
}

/// It is no XML of this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("libvirt's description of a machine cannot be read: {0}")]
pub struct Malformed(String);

impl Element {
    /// An element with nothing in it.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// The same with an attribute more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.attributes.push((name.to_owned(), value.to_string()));
        self
    }

    /// The same with a text in it.
    #[must_use]
    pub fn saying(mut self, text: impl ToString) -> Self {
        self.text = text.to_string();
        self
    }

    /// The same with an element more in it.
    #[must_use]
    pub fn holding(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// The same with further elements in it.
    #[must_use]
    pub fn holding_all(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// The first element of a name in it.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All elements of a name in it.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// As text. Characters that XML cannot hold are left out; none gets here from what people write, which is checked.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        // A vector takes everything.
        drop(self.write(&mut writer));
        String::from_utf8(writer.into_inner()).unwrap_or_default()
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let mut start = BytesStart::new(self.name.as_str());
        for (name, value) in &self.attributes {
            start.push_attribute((name.as_str(), allowed(value).as_str()));
        }
        if self.children.is_empty() && self.text.is_empty() {
            return writer.write_event(Event::Empty(start));
        }
        writer.write_event(Event::Start(start))?;
        if self.children.is_empty() {
            writer.write_event(Event::Text(BytesText::new(&allowed(&self.text))))?;
        }
        for child in &self.children {
            child.write(writer)?;
        }
        writer.write_event(Event::End(BytesEnd::new(self.name.as_str())))
    }

    /// Reads text.
    pub fn from_xml(text: &str) -> Result<Self, Malformed> {
        let malformed = |why: &dyn std::fmt::Display| Malformed(why.to_string());
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        let mut open: Vec<Self> = Vec::new();
        loop {
            match reader.read_event().map_err(|error| malformed(&error))? {
                Event::Start(start) => {
                    if open.len() == DEEPEST {
                        return Err(malformed(&"its elements lie too deep in each other"));
                    }
                    open.push(Self::begun(&start)?);
                }
                Event::Text(text) => {
                    if let Some(element) = open.last_mut() {
                        element.text.push_str(&text.xml10_content());
                    }
                }
                Event::GeneralRef(reference) => {
                    let element = open.last_mut().ok_or_else(|| malformed(&"it begins with a reference"))?;
                    match reference.resolve_char_ref().map_err(|error| malformed(&error))? {
                        Some(letter) => element.text.push(letter),
                        None => element.text.push_str(
                            resolve_predefined_entity(&reference)
                                .ok_or_else(|| malformed(&"it names an unknown entity"))?,
                        ),
                    }
                }
                Event::CData(data) => {
                    if let Some(element) = open.last_mut() {
                        element.text.push_str(&data.xml10_content());
                    }
                }
                Event::End(_) => {
                    // The reader has seen that it belongs to a beginning.
                    let Some(mut element) = open.pop() else { continue };
                    if !element.children.is_empty() {
                        element.text.clear();
                    }
                    match open.last_mut() {
                        Some(outer) => outer.children.push(element),
                        None => return Ok(element),
                    }
                }
                Event::Eof => return Err(malformed(&"it ends too early")),
                Event::DocType(_) => return Err(malformed(&"it brings a document type")),
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
    }

    fn begun(start: &BytesStart<'_>) -> Result<Self, Malformed> {
        let mut element = Self::new(start.name().as_ref());
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| Malformed(error.to_string()))?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value = value.map_err(|error| Malformed(error.to_string()))?.into_owned();
            element.attributes.push((attribute.key.as_ref().to_owned(), value));
        }
        Ok(element)
    }
}

fn allowed(text: &str) -> String {
    text.chars()
        .filter(|letter| {
            matches!(letter, '\t' | '\n' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element() -> impl Strategy<Value = Element> {
        let name = "[a-z][a-z:-]{0,8}";
        let text = "[\\PC<>&'\"\n]{0,12}";
        // Ends of lines in attributes are spaces to whoever reads them.
        let attributes = prop::collection::btree_map(name, "[\\PC<>&'\"]{0,12}", 0..3);
        let leaf = (name, attributes.clone(), text).prop_map(|(name, attributes, text)| Element {
            name,
            attributes: attributes.into_iter().collect(),
            children: Vec::new(),
            text,
        });
        leaf.prop_recursive(4, 24, 4, move |inner| {
            (name, attributes.clone(), prop::collection::vec(inner, 1..4)).prop_map(
                |(name, attributes, children)| Element {
                    name,
                    attributes: attributes.into_iter().collect(),
                    children,
                    text: String::new(),
                },
            )
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(element in element()) {
            prop_assert_eq!(Element::from_xml(&element.to_xml()), Ok(element));
        }

        #[test]
        fn whatever_is_read_does_no_harm(text in "[<>/a-c =\"'&;!\\[\\]?-]{0,60}") {
            let _ = Element::from_xml(&text);
        }
    }

    #[test]
    fn nothing_that_is_written_ends_an_element_or_begins_one() {
        let hostile = "</name><devices><hostdev/></devices>\"'&#10;]]>";
        let one = Element::new("domain").holding(Element::new("title").with("a", hostile).saying(hostile));
        let read = Element::from_xml(&one.to_xml()).unwrap();
        assert_eq!(read, one);
        assert_eq!(read.child("title").unwrap().attribute("a"), Some(hostile));
    }

    #[test]
    fn what_xml_cannot_hold_is_left_out() {
        assert_eq!(Element::new("a").saying("x\u{0}\u{b}\u{ffff}y").to_xml(), "<a>xy</a>");
    }

    #[test]
    fn no_entity_of_a_document_is_followed() {
        for text in [
            "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/shadow\">]><a>&b;</a>",
            "<a>&b;</a>",
            "<a",
            "",
            &"<a>".repeat(100),
        ] {
            assert!(Element::from_xml(text).is_err(), "{text}");
        }
    }
}
