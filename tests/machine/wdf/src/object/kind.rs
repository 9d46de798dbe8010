//! The types of objects, with the numbers a bug check shows (`fxtypes.h`).

use std::any::Any;
use std::sync::Arc;

use super::Object;

macro_rules! kinds {
    ($($name:ident = $code:literal, $type:literal;)*) => {
        /// The type of an object.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind {
            $(#[doc = $type] $name,)*
        }

        impl Kind {
            /// The number of the type, as in the second parameter of bug check 0x10D/5.
            pub(crate) fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The name of the handle's type.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => $type,)* }
            }
        }
    };
}

kinds! {
    Object = 0x1000, "WDFOBJECT";
    Driver = 0x1001, "WDFDRIVER";
    Device = 0x1002, "WDFDEVICE";
    Queue = 0x1003, "WDFQUEUE";
    Key = 0x1006, "WDFKEY";
    String = 0x1007, "WDFSTRING";
    Request = 0x1008, "WDFREQUEST";
    Memory = 0x100A, "WDFMEMORY";
    Dpc = 0x1015, "WDFDPC";
    FileObject = 0x1018, "WDFFILEOBJECT";
    WaitLock = 0x1023, "WDFWAITLOCK";
    SpinLock = 0x1024, "WDFSPINLOCK";
    WorkItem = 0x1025, "WDFWORKITEM";
    Interrupt = 0x1027, "WDFINTERRUPT";
    Timer = 0x1028, "WDFTIMER";
    CmResourceList = 0x1036, "WDFCMRESLIST";
    DmaEnabler = 0x1400, "WDFDMAENABLER";
    DmaTransaction = 0x1401, "WDFDMATRANSACTION";
    CommonBuffer = 0x1402, "WDFCOMMONBUFFER";
}

/// A Rust type that stands for one type of handle.
pub(crate) trait Typed: Object + Sized {
    /// The type of handle.
    const KIND: Kind;
}

/// The concrete object, if it is a `T`.
pub(super) fn downcast<T: Object>(object: Arc<dyn Object>) -> Option<Arc<T>> {
    let any: Arc<dyn Any + Send + Sync> = object;
    any.downcast::<T>().ok()
}
