//! Where a container's group is, by the spec's `cgroupsPath`.

use super::CgroupError;

/// A group's place below the root of each hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From the hierarchy's root.
    Absolute(String),
    /// From the launcher's own group (version 1), or beside it (version 2, where a group with
    /// processes in it can have no groups with limits below).
    Relative(String),
}

/// Reads `path` (none: a group named after the container), as the systemd driver of other runtimes
/// does when `systemd`.
pub(super) fn of(path: Option<&str>, id: &str, systemd: bool) -> Result<Place, CgroupError> {
    let bad = |problem: &str| {
        Err(CgroupError::Path {
            path: path.unwrap_or_default().escape_debug().to_string(),
            problem: problem.to_owned(),
        })
    };
    if systemd {
        let parts: Vec<&str> = path.unwrap_or("::").split(':').collect();
        let &[slice, prefix, name] = parts.as_slice() else {
            return bad("with --systemd-cgroup it has the form slice:prefix:name");
        };
        let slice = if slice.is_empty() {
            "system.slice"
        } else {
            slice
        };
        let Some(slices) = expand(slice) else {
            return bad("its slice is not a name like a-b.slice");
        };
        let name = if name.is_empty() { id } else { name };
        let unit = match (name.ends_with(".slice"), prefix) {
            (true, _) => name.to_owned(),
            (false, "") => format!("{name}.scope"),
            (false, prefix) => format!("{prefix}-{name}.scope"),
        };
        if unit.contains('/') || !component(&unit) {
            return bad("its name has a `/`, or is none");
        }
        return Ok(Place::Absolute(join(&slices, &unit)));
    }
    let Some(path) = path else {
        return Ok(Place::Relative(format!("ringfence-{id}")));
    };
    let parts: Vec<&str> = path
        .split('/')
        .filter(|p| !matches!(*p, "" | "."))
        .collect();
    if parts.is_empty() {
        return bad("it names the root of all groups");
    }
    if !parts.iter().all(|p| component(p)) {
        return bad("it has a `..`, or a control character");
    }
    let clean = parts.join("/");
    Ok(match path.starts_with('/') {
        true => Place::Absolute(clean),
        false => Place::Relative(clean),
    })
}

fn component(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.chars().any(char::is_control)
}

/// The path of a slice: `a-b.slice` lies in `a.slice`; `-.slice` is the root.
fn expand(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(String::new());
    }
    if slice.contains('/') || !component(slice) {
        return None;
    }
    let mut path = String::new();
    let mut so_far = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path = join(&path, &format!("{so_far}.slice"));
    }
    Some(path)
}

fn join(above: &str, name: &str) -> String {
    match above {
        "" => name.to_owned(),
        above => format!("{above}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absolute(path: &str) -> Place {
        Place::Absolute(path.to_owned())
    }

    #[test]
    fn paths_are_cleaned_and_never_lead_up() {
        let of = |path| of(path, "c1", false);
        assert_eq!(of(Some("/docker/c1")).unwrap(), absolute("docker/c1"));
        assert_eq!(of(Some("//a/./b/")).unwrap(), absolute("a/b"));
        assert_eq!(of(Some("a/b")).unwrap(), Place::Relative("a/b".to_owned()));
        assert_eq!(
            of(None).unwrap(),
            Place::Relative("ringfence-c1".to_owned())
        );
        // Without the driver it is a name like any other.
        assert_eq!(of(Some("/a:b:c")).unwrap(), absolute("a:b:c"));
        for bad in ["/", ".", "/..", "/a/../../b", "a/..", "/a\nb"] {
            assert!(of(Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_systemd_form_is_mapped_to_where_systemd_would_put_it() {
        let of = |path| of(Some(path), "c1", true);
        let cases = [
            ("system.slice:docker:abc", "system.slice/docker-abc.scope"),
            (
                "user-1000.slice:crio:x",
                "user.slice/user-1000.slice/crio-x.scope",
            ),
            (":p:n", "system.slice/p-n.scope"),
            ("a-b-c.slice::n", "a.slice/a-b.slice/a-b-c.slice/n.scope"),
            ("-.slice:p:n", "p-n.scope"),
            ("a.slice:p:b.slice", "a.slice/b.slice"),
            ("a.slice:p:", "a.slice/p-c1.scope"),
        ];
        for (given, expected) in cases {
            assert_eq!(of(given).unwrap(), absolute(expected), "{given}");
        }
        for bad in [
            "/a/b",
            "a:b",
            "a:b:c",
            "a-.slice:b:c",
            "x/y.slice:b:c",
            "a.slice:b:../c",
        ] {
            let error = of(bad).unwrap_err().to_string();
            assert!(error.contains("cgroupsPath"), "{error}");
        }
    }
}
