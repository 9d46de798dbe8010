//! What is printed when the machine stops: every object, in the manner of the debugger's `!wdfkd`.

use std::fmt::{self, Write};
use std::sync::Once;

use crate::object::{Header, Object, handle};

/// Has every stop of the machine show the framework's objects.
pub(crate) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        machine_nt::bugcheck::register_dumper("framework", Box::new(|out| dump(out)));
    });
}

fn dump(out: &mut dyn Write) {
    // A dump that cannot be written is lost: the machine stops either way.
    let _ = match handle::all() {
        Some(objects) => objects
            .iter()
            .try_for_each(|object| write_object(out, &**object)),
        None => writeln!(out, "  the table of handles is in use"),
    };
}

fn write_object(out: &mut dyn Write, object: &dyn Object) -> fmt::Result {
    writeln!(out, "  {}", title(object.header()))?;
    object
        .dump()
        .iter()
        .try_for_each(|line| writeln!(out, "    {line}"))
}

fn title(header: &Header) -> String {
    let (name, handle) = (header.kind().name(), header.handle());
    format!("{name} {handle:#x}, {} reference(s)", header.references())
}
