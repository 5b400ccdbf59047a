//! How the running kernel writes its trace: read from the kernel, never assumed.
//!
//! Comes in: the text of `events/*/*/format`, `events/header_page` and `events/header_event`. Goes out: where each field
//! is. Never here: reading a file, or a page.

/// Why a format cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the kernel's description of {0} has no `{1}`")]
    Missing(&'static str, &'static str),
    #[error("the kernel's field `{0}` is {1} bytes long")]
    Size(&'static str, usize),
}

/// A field in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub offset: usize,
    pub size: usize,
}

impl Field {
    /// Its bytes; `None` where the record is too short.
    #[must_use]
    pub fn bytes(self, record: &[u8]) -> Option<&[u8]> {
        record.get(self.offset..self.offset.checked_add(self.size)?)
    }

    /// Its value as a number without a sign, in the byte order of this machine.
    #[must_use]
    pub fn number(self, record: &[u8]) -> Option<u64> {
        let bytes = self.bytes(record)?;
        Some(match bytes.len() {
            1 => u64::from(*bytes.first()?),
            2 => u64::from(u16::from_ne_bytes(bytes.try_into().ok()?)),
            4 => u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)),
            8 => u64::from_ne_bytes(bytes.try_into().ok()?),
            _ => return None,
        })
    }
}

/// The fields of one event, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    about: &'static str,
    pub id: u64,
    fields: Vec<(String, Field)>,
}

impl Format {
    /// Reads `field:__u8 saddr[4]; offset:32; size:4; signed:0;` and `ID: 2287`; lines that say something else are skipped.
    ///
    /// # Errors
    /// When there is no number.
    pub fn parse(about: &'static str, text: &str) -> Result<Format, FormatError> {
        let mut format = Format { about, ..Format::default() };
        let mut id = None;
        for line in text.lines().map(str::trim) {
            if let Some(number) = line.strip_prefix("ID:") {
                id = number.trim().parse().ok();
            } else if let Some((name, field)) = field(line) {
                format.fields.push((name.to_owned(), field));
            }
        }
        format.id = id.ok_or(FormatError::Missing(about, "ID"))?;
        Ok(format)
    }

    /// A number.
    ///
    /// # Errors
    /// When the kernel has no such field, or it is not a number.
    pub fn number(&self, name: &'static str) -> Result<Field, FormatError> {
        let field = self.find(name)?;
        if matches!(field.size, 1 | 2 | 4 | 8) { Ok(field) } else { Err(FormatError::Size(name, field.size)) }
    }

    /// So many bytes.
    ///
    /// # Errors
    /// When the kernel has no such field, or another length.
    pub fn array(&self, name: &'static str, size: usize) -> Result<Field, FormatError> {
        let field = self.find(name)?;
        if field.size == size { Ok(field) } else { Err(FormatError::Size(name, field.size)) }
    }

    fn find(&self, name: &'static str) -> Result<Field, FormatError> {
        let found = self.fields.iter().find(|(n, _)| n == name);
        found.map(|(_, field)| *field).ok_or(FormatError::Missing(self.about, name))
    }
}

/// `field:TYPE NAME[N]; offset:O; size:S; signed:X;`
fn field(line: &str) -> Option<(&str, Field)> {
    let mut parts = line.strip_prefix("field:")?.split(';').map(str::trim);
    let declared = parts.next()?.split('[').next()?;
    let name = declared.rsplit([' ', '*']).next().filter(|n| !n.is_empty())?;
    let (mut offset, mut size) = (None, None);
    for part in parts {
        if let Some(number) = part.strip_prefix("offset:") {
            offset = number.trim().parse().ok();
        } else if let Some(number) = part.strip_prefix("size:") {
            size = number.trim().parse().ok();
        }
    }
    Some((name, Field { offset: offset?, size: size? }))
}

/// The names of a field's numbers, of the kernel's instruction how to print the event:
/// `__print_symbolic(REC->reason, { 0, "NOT_SPECIFIED" }, { 1, "NO_SOCKET" })`.
pub fn symbols<'t>(text: &'t str, field: &str) -> impl Iterator<Item = (u32, &'t str)> {
    let list = text.split_once(&format!("__print_symbolic(REC->{field},")).map_or("", |(_, rest)| rest);
    list.split(')').next().unwrap_or_default().split('{').skip(1).filter_map(|part| {
        let (number, name) = part.split_once(',')?;
        Some((number.trim().parse().ok()?, name.split('"').nth(1)?))
    })
}

/// How a page begins, and where its events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    pub timestamp: Field,
    pub commit: Field,
    pub data: Field,
    /// Of the word before each event: how many bits its kind takes, the rest is time.
    pub kind_bits: u32,
    pub padding: u32,
    pub time_extend: u32,
    /// Absolute times, since Linux 4.17.
    pub time_stamp: Option<u32>,
    /// Up to here a kind is the length of the data in words.
    pub longest: u32,
}

impl PageLayout {
    /// Reads `events/header_page` and `events/header_event`.
    ///
    /// # Errors
    /// When something is missing.
    pub fn parse(page: &str, event: &str) -> Result<PageLayout, FormatError> {
        const PAGE: &str = "a page";
        const EVENT: &str = "an event header";
        let find = |name: &'static str| {
            let mut fields = page.lines().filter_map(|line| field(line.trim()));
            fields.find(|(n, _)| *n == name).map(|(_, f)| f).ok_or(FormatError::Missing(PAGE, name))
        };
        // `padding     : type == 29`, `type_len    :    5 bits`
        let word = |name: &'static str| {
            let of_line = |line: &str| {
                let (left, right) = line.split_once(':').or_else(|| line.split_once("=="))?;
                if left.trim() != name {
                    return None;
                }
                right.split_ascii_whitespace().find_map(|w| w.parse::<u32>().ok())
            };
            event.lines().find_map(of_line).ok_or(FormatError::Missing(EVENT, name))
        };
        let layout = PageLayout {
            timestamp: find("timestamp")?,
            commit: find("commit")?,
            data: find("data")?,
            kind_bits: word("type_len")?,
            padding: word("padding")?,
            time_extend: word("time_extend")?,
            time_stamp: word("time_stamp").ok(),
            longest: word("data max type_len")?,
        };
        if layout.timestamp.size != 8 {
            return Err(FormatError::Size("timestamp", layout.timestamp.size));
        }
        // The two halves of one 32-bit word.
        if !(1..32).contains(&layout.kind_bits) {
            return Err(FormatError::Missing(EVENT, "type_len"));
        }
        Ok(layout)
    }

    /// Bytes of a page as it is read.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        self.data.offset + self.data.size
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As Linux 6.18 writes them, with the places moved so that nothing can be known beforehand.
    pub(crate) const EVENT_FORMAT: &str = "name: inet_sock_set_state\nID: 2287\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:int oldstate;\toffset:16;\tsize:4;\tsigned:1;\n\
        \tfield:int newstate;\toffset:20;\tsize:4;\tsigned:1;\n\
        \tfield:__u16 sport;\toffset:24;\tsize:2;\tsigned:0;\n\
        \tfield:__u16 dport;\toffset:26;\tsize:2;\tsigned:0;\n\
        \tfield:__u16 family;\toffset:28;\tsize:2;\tsigned:0;\n\
        \tfield:__u16 protocol;\toffset:30;\tsize:2;\tsigned:0;\n\
        \tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;\n\
        \tfield:__u8 daddr[4];\toffset:36;\tsize:4;\tsigned:0;\n\
        \tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;\n\
        \tfield:__u8 daddr_v6[16];\toffset:56;\tsize:16;\tsigned:0;\n\nprint fmt: \"...\"\n";
    pub(crate) const PAGE: &str = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
        \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
        \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
        \tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n";
    pub(crate) const EVENT: &str = "# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\
        \tarray       :   32 bits\n\n\tpadding     : type == 29\n\ttime_extend : type == 30\n\
        \ttime_stamp : type == 31\n\tdata max type_len  == 28\n";

    #[test]
    fn fields_are_where_the_kernel_says() {
        let format = Format::parse("x", EVENT_FORMAT).unwrap();
        assert_eq!(format.id, 2287);
        assert_eq!(format.number("skaddr"), Ok(Field { offset: 8, size: 8 }));
        assert_eq!(format.array("saddr_v6", 16), Ok(Field { offset: 40, size: 16 }));
        assert_eq!(format.number("saddr_v6"), Err(FormatError::Size("saddr_v6", 16)));
        assert_eq!(format.array("saddr", 16), Err(FormatError::Size("saddr", 4)));
        assert_eq!(format.number("nothing"), Err(FormatError::Missing("x", "nothing")));
        assert_eq!(Format::parse("x", ""), Err(FormatError::Missing("x", "ID")));
        // Nonsense is skipped.
        for bad in
            ["field:", "field:;", "field:int a;", "field:int a;offset:x;size:1;", "field:int[4];offset:0;size:1;"]
        {
            let format = Format::parse("x", &format!("ID: 1\n{bad}\n")).unwrap();
            assert!(format.number("a").is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_have_the_names_that_the_kernel_prints() {
        let text = "print fmt: \"%s\", __print_symbolic(REC->a, { 1, \"X\" }), __print_symbolic(REC->b, { 2, \"Y\" }, { N, \"Z\" }, {";
        assert_eq!(symbols(text, "b").collect::<Vec<_>>(), [(2, "Y")]);
        assert_eq!(symbols(text, "c").count(), 0);
    }

    #[test]
    fn pages_are_laid_out_as_the_kernel_says() {
        let layout = PageLayout::parse(PAGE, EVENT).unwrap();
        assert_eq!((layout.data.offset, layout.page_bytes(), layout.kind_bits), (16, 4096, 5));
        assert_eq!((layout.padding, layout.time_extend, layout.time_stamp, layout.longest), (29, 30, Some(31), 28));
        let older = EVENT.replace("\ttime_stamp : type == 31\n", "");
        assert_eq!(PageLayout::parse(PAGE, &older).unwrap().time_stamp, None);
        assert!(PageLayout::parse("", EVENT).is_err() && PageLayout::parse(PAGE, "").is_err());
    }

    #[test]
    fn numbers_are_read_by_their_length_or_not_at_all() {
        let record = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(Field { offset: 2, size: 1 }.number(&record), Some(3));
        assert_eq!(Field { offset: 0, size: 8 }.number(&record), Some(u64::from_ne_bytes(record)));
        for field in [Field { offset: 7, size: 2 }, Field { offset: 0, size: 3 }, Field { offset: usize::MAX, size: 2 }]
        {
            assert_eq!(field.number(&record), None, "{field:?}");
        }
    }
}
