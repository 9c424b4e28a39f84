//! The trigger of the view rbytea_upload, which has to fire always: there is no command for that, so the extension makes it, as it makes
//! row triggers, and no dump contains it.

use crate::ddl::reconcile::create_internal_trigger;
use crate::pg::catalog::Extension;
use crate::pg::error::Report;
use crate::pg::spi;
use pgrx::pg_sys;

/// Gives the view its trigger if it has none, as after pg_upgrade. Whether it has got one.
pub fn attach(extension: &Extension) -> Result<bool, Report> {
    // The script of a version that has no such view may be installed.
    let Some(view) = extension.relation_oid(c"rbytea_upload") else { return Ok(false) };
    let function = extension.function_oid(c"rbytea_upload_row")?;
    let query = c"SELECT count(*) FROM pg_trigger WHERE tgrelid = $1 AND tgfoid = $2 AND tgisinternal AND tgenabled = 'A'";
    if spi::value::<i64>(query, &[view.into(), function.into()])? != Some(0) {
        return Ok(false);
    }
    let kind = (pg_sys::TRIGGER_TYPE_INSTEAD, pg_sys::TRIGGER_TYPE_INSERT);
    create_internal_trigger(view, c"rbytea_upload", function, kind, None);
    Ok(true)
}
