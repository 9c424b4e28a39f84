//! Every number, size and offset of `raw` beside the header of the package orthanc-dev: a C program is compiled against it and prints
//! its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::mem::{offset_of, size_of};
use std::process::Command;

use rbytea_orthanc_sdk::raw::{self, ErrorCode, Service};

const NUMBERS: &[(&str, i32)] = &[
    ("OrthancPluginErrorCode_InternalError", ErrorCode::INTERNAL_ERROR.0),
    ("OrthancPluginErrorCode_Success", ErrorCode::SUCCESS.0),
    ("OrthancPluginErrorCode_Plugin", ErrorCode::PLUGIN.0),
    ("OrthancPluginErrorCode_ParameterOutOfRange", ErrorCode::PARAMETER_OUT_OF_RANGE.0),
    ("OrthancPluginErrorCode_NotEnoughMemory", ErrorCode::NOT_ENOUGH_MEMORY.0),
    ("OrthancPluginErrorCode_Database", ErrorCode::DATABASE.0),
    ("OrthancPluginErrorCode_InexistentFile", ErrorCode::INEXISTENT_FILE.0),
    ("OrthancPluginErrorCode_FullStorage", ErrorCode::FULL_STORAGE.0),
    ("OrthancPluginErrorCode_CorruptedFile", ErrorCode::CORRUPTED_FILE.0),
    ("OrthancPluginErrorCode_NullPointer", ErrorCode::NULL_POINTER.0),
    ("OrthancPluginErrorCode_DatabaseUnavailable", ErrorCode::DATABASE_UNAVAILABLE.0),
    ("OrthancPluginErrorCode_BadRange", ErrorCode::BAD_RANGE.0),
    ("OrthancPluginErrorCode_StorageAreaAlreadyRegistered", ErrorCode::STORAGE_AREA_ALREADY_REGISTERED.0),
    ("_OrthancPluginService_LogInfo", Service::LOG_INFO.0),
    ("_OrthancPluginService_LogWarning", Service::LOG_WARNING.0),
    ("_OrthancPluginService_LogError", Service::LOG_ERROR.0),
    ("_OrthancPluginService_SetPluginProperty", Service::SET_PLUGIN_PROPERTY.0),
    ("_OrthancPluginService_GetConfiguration", Service::GET_CONFIGURATION.0),
    ("_OrthancPluginService_SetMetricsValue", Service::SET_METRICS_VALUE.0),
    ("_OrthancPluginService_CreateMemoryBuffer64", Service::CREATE_MEMORY_BUFFER_64.0),
    ("_OrthancPluginService_RegisterRestCallbackNoLock", Service::REGISTER_REST_CALLBACK_NO_LOCK.0),
    ("_OrthancPluginService_RegisterRefreshMetricsCallback", Service::REGISTER_REFRESH_METRICS_CALLBACK.0),
    ("_OrthancPluginService_RegisterStorageArea2", Service::REGISTER_STORAGE_AREA_2.0),
    ("_OrthancPluginService_AnswerBuffer", Service::ANSWER_BUFFER.0),
    ("_OrthancPluginService_SendMethodNotAllowed", Service::SEND_METHOD_NOT_ALLOWED.0),
    ("OrthancPluginHttpMethod_Get", raw::HTTP_METHOD_GET),
    ("_OrthancPluginProperty_Description", raw::PROPERTY_DESCRIPTION),
    ("OrthancPluginMetricsType_Default", raw::METRICS_TYPE_DEFAULT),
    ("sizeof(OrthancPluginErrorCode)", size_of::<ErrorCode>() as i32),
    ("sizeof(_OrthancPluginService)", size_of::<Service>() as i32),
    ("sizeof(OrthancPluginContentType)", size_of::<raw::ContentType>() as i32),
    ("sizeof(OrthancPluginHttpMethod)", size_of::<i32>() as i32),
];

/// Offsets of fields by their names in C; `sizeof` as well where a structure is complete.
macro_rules! layout {
    ($($c:literal $rust:ident $($whole:ident)? { $($c_field:ident $field:ident),* $(,)? })*) => {{
        let mut expected: Vec<(String, i32)> = Vec::new();
        $(
            $( let _ = stringify!($whole);
               expected.push((format!("sizeof({})", $c), size_of::<raw::$rust>() as i32)); )?
            $( expected.push((
                format!("offsetof({}, {})", $c, stringify!($c_field)),
                offset_of!(raw::$rust, $field) as i32,
            )); )*
        )*
        expected
    }};
}

#[test]
#[ignore = "takes the package orthanc-dev: make orthanc-test"]
fn numbers_and_offsets_are_those_of_the_header() {
    let mut expected = layout! {
        "OrthancPluginContext" Context whole {
            pluginsManager plugins_manager, orthancVersion orthanc_version, Free free, InvokeService invoke_service,
        }
        "OrthancPluginMemoryBuffer64" MemoryBuffer64 whole { data data, size size }
        "OrthancPluginHttpRequest" HttpRequest {
            method method, groupsCount groups_count, groups groups, getCount get_count, getKeys get_keys,
            getValues get_values, body body, bodySize body_size,
        }
        "_OrthancPluginRegisterStorageArea2" RegisterStorageArea2 whole {
            create create, readWhole read_whole, readRange read_range, remove remove,
        }
        "_OrthancPluginCreateMemoryBuffer64" CreateMemoryBuffer64 whole { target target, size size }
        "_OrthancPluginRetrieveDynamicString" RetrieveDynamicString whole { result result, argument argument }
        "_OrthancPluginSetPluginProperty" SetPluginProperty whole { plugin plugin, property property, value value }
        "_OrthancPluginSetMetricsValue" SetMetricsValue whole { name name, value value, type metrics_type }
        "_OrthancPluginRegisterRefreshMetricsCallback" RegisterRefreshMetricsCallback whole { callback callback }
        "_OrthancPluginRestCallback" RegisterRestCallback whole {
            pathRegularExpression path_regular_expression, callback callback,
        }
        "_OrthancPluginAnswerBuffer" AnswerBuffer whole {
            output output, answer answer, answerSize answer_size, mimeType mime_type,
        }
        "_OrthancPluginOutputPlusArgument" OutputPlusArgument whole { output output, argument argument }
    };
    expected.extend(NUMBERS.iter().map(|(name, number)| ((*name).to_owned(), *number)));

    let mut program = String::from(
        "#include <stdio.h>\n#include <stddef.h>\n#include <orthanc/OrthancCPlugin.h>\nint main(void) {\n",
    );
    for (name, _) in &expected {
        writeln!(program, "printf(\"%s\\t%d\\n\", \"{name}\", (int) ({name}));").unwrap();
    }
    program.push_str("return 0;\n}\n");
    let dir = tempfile::tempdir().unwrap();
    let (source, binary) = (dir.path().join("print.c"), dir.path().join("print"));
    std::fs::write(&source, program).unwrap();
    let compiled = Command::new("cc").arg(&source).arg("-o").arg(&binary).output().unwrap();
    let said = String::from_utf8_lossy(&compiled.stderr).into_owned();
    assert!(compiled.status.success(), "this takes the package orthanc-dev: {said}");
    let printed = String::from_utf8(Command::new(&binary).output().unwrap().stdout).unwrap();
    let of_header: BTreeMap<&str, i32> = printed
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(name, number)| (name, number.parse().unwrap()))
        .collect();
    for (name, number) in &expected {
        assert_eq!(of_header[name.as_str()], *number, "{name}");
    }
}
