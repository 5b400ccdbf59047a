//! Names for kernel numbers: users and interfaces.
//!
//! Comes in: a number. Goes out: its name, looked up once and remembered. Never here: a name service over the network
//! that the system itself would not ask.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::model::column::Names;

type Cache<K> = RefCell<FxHashMap<K, Option<Rc<str>>>>;

/// The names of this system.
#[derive(Default)]
pub struct SystemNames {
    users: Cache<u32>,
    interfaces: Cache<u32>,
}

fn cached<K: Copy + Eq + std::hash::Hash>(
    cache: &Cache<K>,
    key: K,
    look_up: impl FnOnce() -> Option<String>,
) -> Option<Rc<str>> {
    if let Some(known) = cache.borrow().get(&key) {
        return known.clone();
    }
    let name: Option<Rc<str>> = look_up().map(Rc::from);
    cache.borrow_mut().insert(key, name.clone());
    name
}

impl Names for SystemNames {
    fn user(&self, uid: u32) -> Option<Rc<str>> {
        cached(&self.users, uid, || login_name(uid))
    }

    fn interface(&self, ifindex: u32) -> Option<Rc<str>> {
        cached(&self.interfaces, ifindex, || {
            let socket =
                rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None).ok()?;
            rustix::net::netdevice::index_to_name(&socket, ifindex).ok()
        })
    }

    fn cgroup(&self, _: u64) -> Option<Rc<str>> {
        None
    }

    fn netns(&self, _: u64) -> Option<Rc<str>> {
        None
    }
}

/// The numbers of this system's names, for filters.
pub struct SystemResolver;

impl crate::filter::Resolver for SystemResolver {
    fn port(&self, service: &str) -> Option<u16> {
        let text = std::fs::read_to_string("/etc/services").ok()?;
        text.lines().find_map(|line| {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let (name, number) = (words.next()?, words.next()?);
            let port = number.strip_suffix("/tcp")?;
            (name == service || words.any(|alias| alias == service)).then(|| port.parse().ok())?
        })
    }

    fn interface(&self, name: &str) -> Option<u32> {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None).ok()?;
        rustix::net::netdevice::name_to_index(&socket, name).ok()
    }

    fn user(&self, name: &str) -> Option<u32> {
        user_id(name)
    }

    fn cgroup(&self, path: &str) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        let path = std::path::Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
        std::fs::metadata(path).ok().map(|m| m.ino())
    }
}

/// The user id for a login name, or for the number itself.
#[must_use]
pub fn user_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let name = std::ffi::CString::new(name).ok()?;
    with_entry(|entry, buffer, found| {
        // SAFETY: every pointer refers to memory that outlives the call, and the length is that of the buffer.
        #[allow(unsafe_code, reason = "the name service has no other interface")]
        unsafe {
            libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), found)
        }
    })
    .map(|entry| entry.0)
}

fn login_name(uid: u32) -> Option<String> {
    with_entry(|entry, buffer, found| {
        // SAFETY: every pointer refers to memory that outlives the call, and the length is that of the buffer.
        #[allow(unsafe_code, reason = "the name service has no other interface")]
        unsafe {
            libc::getpwuid_r(uid, entry, buffer.as_mut_ptr(), buffer.len(), found)
        }
    })
    .map(|entry| entry.1)
}

/// Runs a `getpw*_r` call with a buffer that grows as it asks; gives uid and name.
fn with_entry(
    call: impl Fn(&mut libc::passwd, &mut [libc::c_char], &mut *mut libc::passwd) -> libc::c_int,
) -> Option<(u32, String)> {
    let mut buffer = vec![0; 1024];
    loop {
        // SAFETY: `passwd` is a plain C structure for which all zeroes is a value.
        #[allow(unsafe_code, reason = "the structure has no constructor")]
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        let error = call(&mut entry, &mut buffer, &mut found);
        if error == libc::ERANGE && buffer.len() < 1 << 20 {
            buffer.resize(buffer.len() * 4, 0);
            continue;
        }
        if error != 0 || found.is_null() || entry.pw_name.is_null() {
            return None;
        }
        // SAFETY: the call succeeded, so `pw_name` is a NUL-terminated string inside `buffer`.
        #[allow(unsafe_code, reason = "the structure holds a C string")]
        let name = unsafe { std::ffi::CStr::from_ptr(entry.pw_name) };
        return Some((entry.pw_uid, name.to_string_lossy().into_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_read_both_ways() {
        assert_eq!(user_id("root"), Some(0));
        assert_eq!(user_id("4321"), Some(4321));
        assert_eq!(user_id("no-such-user-here"), None);
        let names = SystemNames::default();
        assert_eq!(names.user(0).as_deref(), Some("root"));
        assert_eq!(names.user(0).as_deref(), Some("root"));
        assert_eq!(names.interface(1).as_deref(), Some("lo"));
    }
}
