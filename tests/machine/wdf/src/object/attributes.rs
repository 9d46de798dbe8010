//! `WDF_OBJECT_ATTRIBUTES`: what it may say, and where (`fxvalidatefunctions.cpp`).

use std::ffi::c_void;

use crate::flat::*;

use crate::globals::DriverGlobals;
use crate::trace;
use machine_nt::failure;

/// What a DDI allows in the attributes it is given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// A parent may not be named.
    pub(crate) parent_forbidden: bool,
    /// Attributes and a parent must be given.
    pub(crate) parent_required: bool,
    /// An execution level may be chosen.
    pub(crate) execution_level: bool,
    /// A synchronization scope may be chosen.
    pub(crate) synchronization_scope: bool,
}

impl Rules {
    /// A parent may be given; level and scope are inherited.
    pub(crate) const PLAIN: Self = Self {
        parent_forbidden: false,
        parent_required: false,
        execution_level: false,
        synchronization_scope: false,
    };
    /// No parent either.
    pub(crate) const NO_PARENT: Self = Self {
        parent_forbidden: true,
        ..Self::PLAIN
    };
    /// A parent must be given.
    pub(crate) const PARENT_REQUIRED: Self = Self {
        parent_required: true,
        ..Self::PLAIN
    };
    /// A parent must be given; the level may be chosen.
    pub(crate) const TIMER: Self = Self {
        parent_required: true,
        execution_level: true,
        ..Self::PLAIN
    };
    /// Level and scope may be chosen.
    pub(crate) const CALLBACKS: Self = Self {
        execution_level: true,
        synchronization_scope: true,
        ..Self::PLAIN
    };
}

/// Attributes that were found valid.
pub(crate) struct Attributes(WDF_OBJECT_ATTRIBUTES);

/// Size of the first version of `WDF_OBJECT_CONTEXT_TYPE_INFO`, without the list of unique types.
const TYPE_INFO_V1_0: usize = std::mem::offset_of!(WDF_OBJECT_CONTEXT_TYPE_INFO, UniqueType);

impl Attributes {
    /// The attributes a driver passed, checked; `None` for a null pointer (`FxValidateObjectAttributes`).
    ///
    /// # Errors
    /// The statuses of section 1 of the framework's behaviour: `STATUS_INFO_LENGTH_MISMATCH`,
    /// `STATUS_WDF_OBJECT_ATTRIBUTES_INVALID`, `STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED`, `STATUS_WDF_PARENT_NOT_SPECIFIED`,
    /// `STATUS_WDF_SYNCHRONIZATION_SCOPE_INVALID`, `STATUS_WDF_EXECUTION_LEVEL_INVALID`.
    ///
    /// # Safety
    /// `attributes` is null or points to the driver's structure.
    pub(crate) unsafe fn read(
        globals: &DriverGlobals,
        attributes: *const WDF_OBJECT_ATTRIBUTES,
        rules: Rules,
    ) -> Result<Option<Self>, NTSTATUS> {
        if attributes.is_null() {
            return if rules.parent_required {
                Err(STATUS_WDF_PARENT_NOT_SPECIFIED)
            } else {
                Ok(None)
            };
        }
        // SAFETY: the caller passes the driver's structure; its first field is its size.
        let size = unsafe { (*attributes).Size } as usize;
        if size != size_of::<WDF_OBJECT_ATTRIBUTES>() {
            trace::error(
                globals,
                &format!(
                    "WDF_OBJECT_ATTRIBUTES size {size:#x} is not {:#x}",
                    size_of::<WDF_OBJECT_ATTRIBUTES>()
                ),
            );
            return Err(STATUS_INFO_LENGTH_MISMATCH);
        }
        // SAFETY: the size is right, so the whole structure is there.
        let checked = Self(unsafe { attributes.read() });
        let result = checked.validate(rules);
        if let Err(status) = result {
            trace::error(
                globals,
                &format!("the object attributes are refused: {status:#010x}"),
            );
        }
        result.map(|()| Some(checked))
    }

    /// The attributes of an object that is about to be created, checked.
    ///
    /// # Errors
    /// Those of [`Attributes::read`]; `STATUS_INSUFFICIENT_RESOURCES` if a test wants the creation to fail.
    ///
    /// # Safety
    /// As [`Attributes::read`].
    pub(crate) unsafe fn check(
        globals: &DriverGlobals,
        attributes: *const WDF_OBJECT_ATTRIBUTES,
        rules: Rules,
    ) -> Result<Option<Self>, NTSTATUS> {
        // SAFETY: the caller's promise.
        let checked = unsafe { Self::read(globals, attributes, rules) }?;
        if failure::strikes(failure::Point::Object) {
            trace::error(globals, "no memory for an object");
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        Ok(checked)
    }

    fn validate(&self, rules: Rules) -> Result<(), NTSTATUS> {
        self.validate_context()?;
        if rules.parent_forbidden && !self.0.ParentObject.is_null() {
            return Err(STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED);
        }
        if rules.parent_required && self.0.ParentObject.is_null() {
            return Err(STATUS_WDF_PARENT_NOT_SPECIFIED);
        }
        let level = self.0.ExecutionLevel;
        if level == WdfExecutionLevelInvalid || level > WdfExecutionLevelDispatch {
            return Err(STATUS_WDF_OBJECT_ATTRIBUTES_INVALID);
        }
        let scope = self.0.SynchronizationScope;
        if scope == WdfSynchronizationScopeInvalid || scope > WdfSynchronizationScopeNone {
            return Err(STATUS_WDF_OBJECT_ATTRIBUTES_INVALID);
        }
        if !rules.synchronization_scope
            && scope != WdfSynchronizationScopeInheritFromParent
            && scope != WdfSynchronizationScopeNone
        {
            return Err(STATUS_WDF_SYNCHRONIZATION_SCOPE_INVALID);
        }
        if !rules.execution_level && level != WdfExecutionLevelInheritFromParent {
            return Err(STATUS_WDF_EXECUTION_LEVEL_INVALID);
        }
        Ok(())
    }

    fn validate_context(&self) -> Result<(), NTSTATUS> {
        let declared = match self.type_info() {
            None if self.0.ContextSizeOverride > 0 => {
                return Err(STATUS_WDF_OBJECT_ATTRIBUTES_INVALID);
            }
            None => return Ok(()),
            Some(info) => info,
        };
        let size = declared.Size as usize;
        if size != size_of::<WDF_OBJECT_CONTEXT_TYPE_INFO>() && size != TYPE_INFO_V1_0 {
            return Err(STATUS_INFO_LENGTH_MISMATCH);
        }
        if declared.ContextSize > 0 && declared.ContextName.is_null() {
            return Err(STATUS_WDF_OBJECT_ATTRIBUTES_INVALID);
        }
        if self.0.ContextSizeOverride > 0 && self.0.ContextSizeOverride < declared.ContextSize {
            return Err(STATUS_WDF_OBJECT_ATTRIBUTES_INVALID);
        }
        Ok(())
    }

    fn type_info(&self) -> Option<&WDF_OBJECT_CONTEXT_TYPE_INFO> {
        // SAFETY: null or the driver's static description of the type.
        unsafe { self.0.ContextTypeInfo.as_ref() }
    }

    /// The handle of the parent, if one is named.
    pub(crate) fn parent_handle(&self) -> Option<usize> {
        let parent = self.0.ParentObject as usize;
        (parent != 0).then_some(parent)
    }

    /// What identifies the context's type: the address of its description. Null if there is no context.
    pub(crate) fn context_type(&self) -> *mut c_void {
        self.0.ContextTypeInfo.cast_mut().cast()
    }

    /// Bytes of the context.
    pub(crate) fn context_size(&self) -> usize {
        match (self.0.ContextSizeOverride, self.type_info()) {
            (_, None) => 0,
            (0, Some(info)) => info.ContextSize,
            (size, Some(_)) => size,
        }
    }

    /// `EvtCleanupCallback`.
    pub(crate) fn cleanup(&self) -> Option<unsafe extern "win64" fn(WDFOBJECT)> {
        self.0.EvtCleanupCallback
    }

    /// `EvtDestroyCallback`.
    pub(crate) fn destroy(&self) -> Option<unsafe extern "win64" fn(WDFOBJECT)> {
        self.0.EvtDestroyCallback
    }

    /// The execution level asked for.
    pub(crate) fn execution_level(&self) -> WDF_EXECUTION_LEVEL {
        self.0.ExecutionLevel
    }

    /// The synchronization scope asked for.
    pub(crate) fn synchronization_scope(&self) -> WDF_SYNCHRONIZATION_SCOPE {
        self.0.SynchronizationScope
    }
}

// SAFETY: the pointers inside are handles and addresses of the driver's static descriptions; they are only compared and read.
unsafe impl Send for Attributes {}
// SAFETY: as above; nothing is changed through them.
unsafe impl Sync for Attributes {}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes() -> WDF_OBJECT_ATTRIBUTES {
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut attributes: WDF_OBJECT_ATTRIBUTES = unsafe { std::mem::zeroed() };
        attributes.Size = size_of::<WDF_OBJECT_ATTRIBUTES>() as _;
        attributes.ExecutionLevel = WdfExecutionLevelInheritFromParent;
        attributes.SynchronizationScope = WdfSynchronizationScopeInheritFromParent;
        attributes
    }

    fn refused(change: impl FnOnce(&mut WDF_OBJECT_ATTRIBUTES), rules: Rules) -> Option<NTSTATUS> {
        let mut raw = attributes();
        change(&mut raw);
        Attributes(raw).validate(rules).err()
    }

    #[test]
    fn plain_attributes_pass() {
        assert_eq!(refused(|_| {}, Rules::PLAIN), None);
    }

    #[test]
    fn a_parent_is_refused_where_none_is_allowed() {
        let parent = |raw: &mut WDF_OBJECT_ATTRIBUTES| raw.ParentObject = 16 as _;
        assert_eq!(
            refused(parent, Rules::NO_PARENT),
            Some(STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED)
        );
        assert_eq!(
            refused(|_| {}, Rules::PARENT_REQUIRED),
            Some(STATUS_WDF_PARENT_NOT_SPECIFIED)
        );
    }

    #[test]
    fn level_and_scope_are_refused_where_they_mean_nothing() {
        let level = |raw: &mut WDF_OBJECT_ATTRIBUTES| raw.ExecutionLevel = WdfExecutionLevelPassive;
        let scope = |raw: &mut WDF_OBJECT_ATTRIBUTES| {
            raw.SynchronizationScope = WdfSynchronizationScopeDevice
        };
        let none = |raw: &mut WDF_OBJECT_ATTRIBUTES| {
            raw.SynchronizationScope = WdfSynchronizationScopeNone
        };
        let nonsense =
            |raw: &mut WDF_OBJECT_ATTRIBUTES| raw.ExecutionLevel = WdfExecutionLevelInvalid;
        assert_eq!(
            refused(level, Rules::PLAIN),
            Some(STATUS_WDF_EXECUTION_LEVEL_INVALID)
        );
        assert_eq!(
            refused(scope, Rules::PLAIN),
            Some(STATUS_WDF_SYNCHRONIZATION_SCOPE_INVALID)
        );
        assert_eq!(refused(none, Rules::PLAIN), None);
        assert_eq!(refused(level, Rules::CALLBACKS), None);
        assert_eq!(
            refused(nonsense, Rules::CALLBACKS),
            Some(STATUS_WDF_OBJECT_ATTRIBUTES_INVALID)
        );
    }

    #[test]
    fn a_size_override_needs_a_type_it_can_hold() {
        assert_eq!(
            refused(|raw| raw.ContextSizeOverride = 8, Rules::PLAIN),
            Some(STATUS_WDF_OBJECT_ATTRIBUTES_INVALID)
        );
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut info: WDF_OBJECT_CONTEXT_TYPE_INFO = unsafe { std::mem::zeroed() };
        info.Size = size_of::<WDF_OBJECT_CONTEXT_TYPE_INFO>() as _;
        info.ContextSize = 16;
        info.ContextName = c"Context".as_ptr();
        let with = |size: usize| {
            refused(
                |raw| {
                    raw.ContextTypeInfo = &raw const info;
                    raw.ContextSizeOverride = size as _;
                },
                Rules::PLAIN,
            )
        };
        assert_eq!(with(8), Some(STATUS_WDF_OBJECT_ATTRIBUTES_INVALID));
        assert_eq!(with(32), None);
    }
}
