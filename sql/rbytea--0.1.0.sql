-- rbytea 0.1.0
-- Hand-written: the wrapper symbols are those that pgrx exports for each #[pg_extern] function. Never edited after its
-- release; later versions come with upgrade scripts.

\echo Use "CREATE EXTENSION rbytea" to load this file. \quit

-- The schema of the table and the views --------------------------------------------------------------------------------

-- Off the search_path: tools that compare what they find there with a program's classes offer to drop the rest. Where the
-- extension is created in a schema of this name, the table and the views are in that one, which stays as its owner made it.
-- A function in SQL, for PL/pgSQL may not be installed, and CREATE SCHEMA IF NOT EXISTS is an error where the schema is
-- there and not the extension's.
CREATE FUNCTION rbytea_create_schema() RETURNS void LANGUAGE sql AS $$
    CREATE SCHEMA rbytea;
    COMMENT ON SCHEMA rbytea IS 'the table and the views of the extension rbytea';
    REVOKE ALL ON SCHEMA rbytea FROM PUBLIC;
    GRANT USAGE ON SCHEMA rbytea TO PUBLIC;
$$;
SELECT @extschema@.rbytea_create_schema() WHERE '@extschema@' OPERATOR(pg_catalog.<>) 'rbytea';
DROP FUNCTION rbytea_create_schema();

-- The type -----------------------------------------------------------------------------------------------------------

CREATE TYPE rbytea;

CREATE FUNCTION rbytea_in(cstring) RETURNS rbytea
AS 'MODULE_PATHNAME', 'rbytea_in_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_in(cstring) IS 'I/O';

CREATE FUNCTION rbytea_out(rbytea) RETURNS cstring
AS 'MODULE_PATHNAME', 'rbytea_out_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_out(rbytea) IS 'I/O';

CREATE FUNCTION rbytea_recv(internal) RETURNS rbytea
AS 'MODULE_PATHNAME', 'rbytea_recv_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_recv(internal) IS 'I/O';

CREATE FUNCTION rbytea_send(rbytea) RETURNS bytea
AS 'MODULE_PATHNAME', 'rbytea_send_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_send(rbytea) IS 'I/O';

CREATE FUNCTION rbytea_typanalyze(internal) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_typanalyze_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_typanalyze(internal) IS 'ANALYZE support: null fraction and width only';

CREATE TYPE rbytea (
    INPUT = rbytea_in,
    OUTPUT = rbytea_out,
    RECEIVE = rbytea_recv,
    SEND = rbytea_send,
    ANALYZE = rbytea_typanalyze,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = int4,
    STORAGE = extended
);
COMMENT ON TYPE rbytea IS 'bytes like bytea, kept in a file outside of the table';

-- Arrays of the type too: there is no command for the array type that CREATE TYPE makes.
UPDATE pg_catalog.pg_type SET typanalyze = '@extschema@.rbytea_typanalyze(internal)'::pg_catalog.regprocedure
 WHERE oid OPERATOR(pg_catalog.=) '@extschema@.rbytea[]'::pg_catalog.regtype;

-- Casts --------------------------------------------------------------------------------------------------------------

CREATE FUNCTION rbytea(bytea) RETURNS rbytea
AS 'MODULE_PATHNAME', 'rbytea_from_bytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea(bytea) IS 'convert bytea to rbytea';

CREATE FUNCTION bytea(rbytea) RETURNS bytea
AS 'MODULE_PATHNAME', 'rbytea_to_bytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION bytea(rbytea) IS 'the payload as bytea';

CREATE FUNCTION pg_catalog.rbytea_to_client(@extschema@.rbytea) RETURNS bytea
AS 'MODULE_PATHNAME', 'rbytea_to_client_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION pg_catalog.rbytea_to_client(@extschema@.rbytea) IS 'the payload as bytea, in the results that clients get; volatile, so that it is computed after a sort';

CREATE FUNCTION pg_catalog.rbytea_from_client(bytea) RETURNS @extschema@.rbytea
AS 'MODULE_PATHNAME', 'rbytea_from_client_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pg_catalog.rbytea_from_client(bytea) IS 'bytea that a client has sent as rbytea; stable, so that no plan has a copy of it';

CREATE CAST (bytea AS rbytea) WITH FUNCTION rbytea(bytea) AS ASSIGNMENT;
COMMENT ON CAST (bytea AS rbytea) IS 'convert bytea to rbytea';
CREATE CAST (rbytea AS bytea) WITH FUNCTION bytea(rbytea) AS IMPLICIT;
COMMENT ON CAST (rbytea AS bytea) IS 'the payload as bytea';

-- Comparison -----------------------------------------------------------------------------------------------------------

-- `=`, `<>` and the hash by length and digest, without reading a stored payload; the order is bytea's, for which stored
-- payloads are read from the front. With bytea on one side too, so that neither is converted. The operators are in
-- pg_catalog, as bytea's are: elsewhere they would be found by search_path only, and without them those of bytea or text.

CREATE FUNCTION rbytea_eq(rbytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_eq_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_eq(rbytea, rbytea) IS 'implementation of = operator';
CREATE FUNCTION rbytea_ne(rbytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_ne_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_ne(rbytea, rbytea) IS 'implementation of <> operator';
CREATE FUNCTION rbytea_lt(rbytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_lt_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_lt(rbytea, rbytea) IS 'implementation of < operator';
CREATE FUNCTION rbytea_le(rbytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_le_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_le(rbytea, rbytea) IS 'implementation of <= operator';
CREATE FUNCTION rbytea_ge(rbytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_ge_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_ge(rbytea, rbytea) IS 'implementation of >= operator';
CREATE FUNCTION rbytea_gt(rbytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_gt_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_gt(rbytea, rbytea) IS 'implementation of > operator';
CREATE FUNCTION rbytea_cmp(rbytea, rbytea) RETURNS integer
AS 'MODULE_PATHNAME', 'rbytea_cmp_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_cmp(rbytea, rbytea) IS 'less-equal-greater';

CREATE FUNCTION rbytea_eq_bytea(rbytea, bytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_eq_bytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_eq_bytea(rbytea, bytea) IS 'implementation of = operator';
CREATE FUNCTION rbytea_ne_bytea(rbytea, bytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_ne_bytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_ne_bytea(rbytea, bytea) IS 'implementation of <> operator';
CREATE FUNCTION rbytea_lt_bytea(rbytea, bytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_lt_bytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_lt_bytea(rbytea, bytea) IS 'implementation of < operator';
CREATE FUNCTION rbytea_le_bytea(rbytea, bytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_le_bytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_le_bytea(rbytea, bytea) IS 'implementation of <= operator';
CREATE FUNCTION rbytea_ge_bytea(rbytea, bytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_ge_bytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_ge_bytea(rbytea, bytea) IS 'implementation of >= operator';
CREATE FUNCTION rbytea_gt_bytea(rbytea, bytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_gt_bytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_gt_bytea(rbytea, bytea) IS 'implementation of > operator';
CREATE FUNCTION rbytea_cmp_bytea(rbytea, bytea) RETURNS integer
AS 'MODULE_PATHNAME', 'rbytea_cmp_bytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION rbytea_cmp_bytea(rbytea, bytea) IS 'less-equal-greater';

CREATE FUNCTION bytea_eq_rbytea(bytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'bytea_eq_rbytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION bytea_eq_rbytea(bytea, rbytea) IS 'implementation of = operator';
CREATE FUNCTION bytea_ne_rbytea(bytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'bytea_ne_rbytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION bytea_ne_rbytea(bytea, rbytea) IS 'implementation of <> operator';
CREATE FUNCTION bytea_lt_rbytea(bytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'bytea_lt_rbytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION bytea_lt_rbytea(bytea, rbytea) IS 'implementation of < operator';
CREATE FUNCTION bytea_le_rbytea(bytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'bytea_le_rbytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION bytea_le_rbytea(bytea, rbytea) IS 'implementation of <= operator';
CREATE FUNCTION bytea_ge_rbytea(bytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'bytea_ge_rbytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION bytea_ge_rbytea(bytea, rbytea) IS 'implementation of >= operator';
CREATE FUNCTION bytea_gt_rbytea(bytea, rbytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'bytea_gt_rbytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION bytea_gt_rbytea(bytea, rbytea) IS 'implementation of > operator';
CREATE FUNCTION bytea_cmp_rbytea(bytea, rbytea) RETURNS integer
AS 'MODULE_PATHNAME', 'bytea_cmp_rbytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION bytea_cmp_rbytea(bytea, rbytea) IS 'less-equal-greater';

CREATE FUNCTION rbytea_hash(rbytea) RETURNS integer
AS 'MODULE_PATHNAME', 'rbytea_hash_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_hash(rbytea) IS 'hash';
CREATE FUNCTION rbytea_hash_extended(rbytea, bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'rbytea_hash_extended_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_hash_extended(rbytea, bigint) IS 'hash with a seed';
CREATE FUNCTION rbytea_hash_bytea(bytea) RETURNS integer
AS 'MODULE_PATHNAME', 'rbytea_hash_bytea_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_hash_bytea(bytea) IS 'hash that agrees with that of an rbytea';
CREATE FUNCTION rbytea_hash_bytea_extended(bytea, bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'rbytea_hash_bytea_extended_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_hash_bytea_extended(bytea, bigint) IS 'hash with a seed that agrees with that of an rbytea';
CREATE FUNCTION rbytea_btree_options(internal) RETURNS void
AS 'MODULE_PATHNAME', 'rbytea_btree_options_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION rbytea_btree_options(internal) IS 'refuses btree indexes';

CREATE OPERATOR pg_catalog.= (
    FUNCTION = rbytea_eq, LEFTARG = rbytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
COMMENT ON OPERATOR pg_catalog.= (rbytea, rbytea) IS 'equal';
CREATE OPERATOR pg_catalog.<> (
    FUNCTION = rbytea_ne, LEFTARG = rbytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=), RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (rbytea, rbytea) IS 'not equal';
CREATE OPERATOR pg_catalog.< (
    FUNCTION = rbytea_lt, LEFTARG = rbytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.>), NEGATOR = OPERATOR(pg_catalog.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR pg_catalog.< (rbytea, rbytea) IS 'less than';
CREATE OPERATOR pg_catalog.<= (
    FUNCTION = rbytea_le, LEFTARG = rbytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.>=), NEGATOR = OPERATOR(pg_catalog.>), RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR pg_catalog.<= (rbytea, rbytea) IS 'less than or equal';
CREATE OPERATOR pg_catalog.>= (
    FUNCTION = rbytea_ge, LEFTARG = rbytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.<=), NEGATOR = OPERATOR(pg_catalog.<), RESTRICT = scalargesel, JOIN = scalargejoinsel
);
COMMENT ON OPERATOR pg_catalog.>= (rbytea, rbytea) IS 'greater than or equal';
CREATE OPERATOR pg_catalog.> (
    FUNCTION = rbytea_gt, LEFTARG = rbytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.<), NEGATOR = OPERATOR(pg_catalog.<=), RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR pg_catalog.> (rbytea, rbytea) IS 'greater than';
CREATE OPERATOR pg_catalog.= (
    FUNCTION = rbytea_eq_bytea, LEFTARG = rbytea, RIGHTARG = bytea,
    COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
COMMENT ON OPERATOR pg_catalog.= (rbytea, bytea) IS 'equal';
CREATE OPERATOR pg_catalog.<> (
    FUNCTION = rbytea_ne_bytea, LEFTARG = rbytea, RIGHTARG = bytea,
    COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=), RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (rbytea, bytea) IS 'not equal';
CREATE OPERATOR pg_catalog.< (
    FUNCTION = rbytea_lt_bytea, LEFTARG = rbytea, RIGHTARG = bytea,
    COMMUTATOR = OPERATOR(pg_catalog.>), NEGATOR = OPERATOR(pg_catalog.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR pg_catalog.< (rbytea, bytea) IS 'less than';
CREATE OPERATOR pg_catalog.<= (
    FUNCTION = rbytea_le_bytea, LEFTARG = rbytea, RIGHTARG = bytea,
    COMMUTATOR = OPERATOR(pg_catalog.>=), NEGATOR = OPERATOR(pg_catalog.>), RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR pg_catalog.<= (rbytea, bytea) IS 'less than or equal';
CREATE OPERATOR pg_catalog.>= (
    FUNCTION = rbytea_ge_bytea, LEFTARG = rbytea, RIGHTARG = bytea,
    COMMUTATOR = OPERATOR(pg_catalog.<=), NEGATOR = OPERATOR(pg_catalog.<), RESTRICT = scalargesel, JOIN = scalargejoinsel
);
COMMENT ON OPERATOR pg_catalog.>= (rbytea, bytea) IS 'greater than or equal';
CREATE OPERATOR pg_catalog.> (
    FUNCTION = rbytea_gt_bytea, LEFTARG = rbytea, RIGHTARG = bytea,
    COMMUTATOR = OPERATOR(pg_catalog.<), NEGATOR = OPERATOR(pg_catalog.<=), RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR pg_catalog.> (rbytea, bytea) IS 'greater than';
CREATE OPERATOR pg_catalog.= (
    FUNCTION = bytea_eq_rbytea, LEFTARG = bytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
COMMENT ON OPERATOR pg_catalog.= (bytea, rbytea) IS 'equal';
CREATE OPERATOR pg_catalog.<> (
    FUNCTION = bytea_ne_rbytea, LEFTARG = bytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=), RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (bytea, rbytea) IS 'not equal';
CREATE OPERATOR pg_catalog.< (
    FUNCTION = bytea_lt_rbytea, LEFTARG = bytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.>), NEGATOR = OPERATOR(pg_catalog.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR pg_catalog.< (bytea, rbytea) IS 'less than';
CREATE OPERATOR pg_catalog.<= (
    FUNCTION = bytea_le_rbytea, LEFTARG = bytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.>=), NEGATOR = OPERATOR(pg_catalog.>), RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR pg_catalog.<= (bytea, rbytea) IS 'less than or equal';
CREATE OPERATOR pg_catalog.>= (
    FUNCTION = bytea_ge_rbytea, LEFTARG = bytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.<=), NEGATOR = OPERATOR(pg_catalog.<), RESTRICT = scalargesel, JOIN = scalargejoinsel
);
COMMENT ON OPERATOR pg_catalog.>= (bytea, rbytea) IS 'greater than or equal';
CREATE OPERATOR pg_catalog.> (
    FUNCTION = bytea_gt_rbytea, LEFTARG = bytea, RIGHTARG = rbytea,
    COMMUTATOR = OPERATOR(pg_catalog.<), NEGATOR = OPERATOR(pg_catalog.<=), RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR pg_catalog.> (bytea, rbytea) IS 'greater than';

CREATE OPERATOR FAMILY rbytea_ops USING hash;
COMMENT ON OPERATOR FAMILY rbytea_ops USING hash IS 'hash of the digest';
CREATE OPERATOR CLASS rbytea_ops DEFAULT FOR TYPE rbytea USING hash FAMILY rbytea_ops AS
    OPERATOR 1 pg_catalog.=,
    FUNCTION 1 rbytea_hash(rbytea),
    FUNCTION 2 rbytea_hash_extended(rbytea, bigint);
COMMENT ON OPERATOR CLASS rbytea_ops USING hash IS 'hash of the digest';
-- bytea's own `=`, too, because a hashed subplan looks for the operator of each side. What compares bytea with bytea goes on hashing as
-- before: the family of PostgreSQL's own comes first.
ALTER OPERATOR FAMILY rbytea_ops USING hash ADD
    OPERATOR 1 pg_catalog.= (bytea, bytea),
    OPERATOR 1 pg_catalog.= (rbytea, bytea),
    OPERATOR 1 pg_catalog.= (bytea, rbytea),
    FUNCTION 1 (bytea, bytea) rbytea_hash_bytea(bytea),
    FUNCTION 2 (bytea, bytea) rbytea_hash_bytea_extended(bytea, bigint);

-- For sorts. An index is refused by its options function.
CREATE OPERATOR FAMILY rbytea_ops USING btree;
COMMENT ON OPERATOR FAMILY rbytea_ops USING btree IS 'order of bytea';
CREATE OPERATOR CLASS rbytea_ops DEFAULT FOR TYPE rbytea USING btree FAMILY rbytea_ops AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>,
    FUNCTION 1 rbytea_cmp(rbytea, rbytea),
    FUNCTION 5 rbytea_btree_options(internal);
COMMENT ON OPERATOR CLASS rbytea_ops USING btree IS 'order of bytea';
ALTER OPERATOR FAMILY rbytea_ops USING btree ADD
    OPERATOR 1 pg_catalog.< (rbytea, bytea),
    OPERATOR 2 pg_catalog.<= (rbytea, bytea),
    OPERATOR 3 pg_catalog.= (rbytea, bytea),
    OPERATOR 4 pg_catalog.>= (rbytea, bytea),
    OPERATOR 5 pg_catalog.> (rbytea, bytea),
    FUNCTION 1 (rbytea, bytea) rbytea_cmp_bytea(rbytea, bytea),
    OPERATOR 1 pg_catalog.< (bytea, rbytea),
    OPERATOR 2 pg_catalog.<= (bytea, rbytea),
    OPERATOR 3 pg_catalog.= (bytea, rbytea),
    OPERATOR 4 pg_catalog.>= (bytea, rbytea),
    OPERATOR 5 pg_catalog.> (bytea, rbytea),
    FUNCTION 1 (bytea, rbytea) bytea_cmp_rbytea(bytea, rbytea);

-- bytea has this operator; without one of its own, a value and an untyped literal would be concatenated as texts.
CREATE FUNCTION rbytea_cat(rbytea, rbytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN $1::bytea OPERATOR(pg_catalog.||) $2::bytea;
COMMENT ON FUNCTION rbytea_cat(rbytea, rbytea) IS 'implementation of || operator';
CREATE OPERATOR pg_catalog.|| (FUNCTION = rbytea_cat, LEFTARG = rbytea, RIGHTARG = rbytea);
COMMENT ON OPERATOR pg_catalog.|| (rbytea, rbytea) IS 'concatenate';

-- What bytea has too. These live in pg_catalog because SQL's own syntax, as in substring(x FROM 1 FOR 10), looks only
-- there; elsewhere it would find the functions of bytea, which read the whole payload. (There is no sha256: PostgreSQL has
-- only one, and with a second one an untyped literal or parameter would fit both.) ---------------------------------

CREATE FUNCTION pg_catalog.length(@extschema@.rbytea) RETURNS integer
AS 'MODULE_PATHNAME', 'rbytea_length_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pg_catalog.length(@extschema@.rbytea) IS 'octet length';

CREATE FUNCTION pg_catalog.octet_length(@extschema@.rbytea) RETURNS integer
AS 'MODULE_PATHNAME', 'rbytea_length_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pg_catalog.octet_length(@extschema@.rbytea) IS 'octet length';

CREATE FUNCTION pg_catalog.substring(@extschema@.rbytea, integer, integer) RETURNS bytea
AS 'MODULE_PATHNAME', 'rbytea_substring_length_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION pg_catalog.substring(@extschema@.rbytea, integer, integer) IS 'extract portion of the payload, reading no more than that';

CREATE FUNCTION pg_catalog.substring(@extschema@.rbytea, integer) RETURNS bytea
AS 'MODULE_PATHNAME', 'rbytea_substring_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION pg_catalog.substring(@extschema@.rbytea, integer) IS 'extract portion of the payload, reading no more than that';

CREATE FUNCTION pg_catalog.substr(@extschema@.rbytea, integer, integer) RETURNS bytea
AS 'MODULE_PATHNAME', 'rbytea_substring_length_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION pg_catalog.substr(@extschema@.rbytea, integer, integer) IS 'extract portion of the payload, reading no more than that';

CREATE FUNCTION pg_catalog.substr(@extschema@.rbytea, integer) RETURNS bytea
AS 'MODULE_PATHNAME', 'rbytea_substring_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION pg_catalog.substr(@extschema@.rbytea, integer) IS 'extract portion of the payload, reading no more than that';

CREATE FUNCTION pg_catalog.md5(@extschema@.rbytea) RETURNS text
AS 'MODULE_PATHNAME', 'rbytea_md5sum_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION pg_catalog.md5(@extschema@.rbytea) IS 'MD5 hash of the payload, in constant memory';

-- One value and its file ----------------------------------------------------------------------------------------------

CREATE FUNCTION uuid(rbytea) RETURNS uuid
AS 'MODULE_PATHNAME', 'rbytea_uuid_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION uuid(rbytea) IS 'name of the payload file; NULL while the payload is in the row';

CREATE FUNCTION len(rbytea) RETURNS bigint
AS 'MODULE_PATHNAME', 'rbytea_len_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION len(rbytea) IS 'bytes of the payload';

CREATE FUNCTION len_full(rbytea) RETURNS bigint
AS 'MODULE_PATHNAME', 'rbytea_len_full_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION len_full(rbytea) IS 'bytes of the payload file; NULL while the payload is in the row';

CREATE FUNCTION qss_mode(rbytea) RETURNS bigint
AS 'MODULE_PATHNAME', 'rbytea_qss_mode_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION qss_mode(rbytea) IS 'encryption of the payload file: 0 none, 1 Kuznyechik';

CREATE FUNCTION md5sum(rbytea) RETURNS text
AS 'MODULE_PATHNAME', 'rbytea_md5sum_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION md5sum(rbytea) IS 'MD5 of the payload, in constant memory; an error if the file is not what was stored';

CREATE FUNCTION sha256sum(rbytea) RETURNS text
AS 'MODULE_PATHNAME', 'rbytea_sha256sum_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION sha256sum(rbytea) IS 'SHA-256 of the payload, in constant memory; an error if the file is not what was stored';

CREATE FUNCTION md5store(rbytea) RETURNS text
AS 'MODULE_PATHNAME', 'rbytea_md5store_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION md5store(rbytea) IS 'MD5 of the payload file as it is on disk; NULL while the payload is in the row';

CREATE FUNCTION sha256store(rbytea) RETURNS text
AS 'MODULE_PATHNAME', 'rbytea_sha256store_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION sha256store(rbytea) IS 'SHA-256 of the payload file as it is on disk; NULL while the payload is in the row';

CREATE FUNCTION rbytea_store(bytea) RETURNS rbytea
AS 'MODULE_PATHNAME', 'rbytea_store_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION rbytea_store(bytea) IS 'store a payload at once and return the reference; for ALTER TABLE ... TYPE rbytea USING rbytea_store(...)';

-- Payloads of any size, piece by piece ----------------------------------------------------------------------------------------

CREATE FUNCTION rbytea_begin() RETURNS bigint
AS 'MODULE_PATHNAME', 'rbytea_begin_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_begin() IS 'open an upload of this transaction; returns its number';

CREATE FUNCTION rbytea_append(upload bigint, chunk bytea) RETURNS bigint
AS 'MODULE_PATHNAME', 'rbytea_append_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION rbytea_append(bigint, bytea) IS 'append bytes to an upload; returns its length so far';

CREATE FUNCTION rbytea_finish(upload bigint) RETURNS rbytea
AS 'MODULE_PATHNAME', 'rbytea_finish_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION rbytea_finish(bigint) IS 'end an upload and return the value, for INSERT or UPDATE';

-- A view, because a view stores nothing. rbytea_attach() gives it its trigger, at the end of this script and after pg_upgrade: it fires whatever
-- session_replication_role is, for without it the bytes would be lost in silence, and no dump has a command for that.
CREATE VIEW rbytea_upload AS SELECT NULL::bigint AS upload, NULL::bytea AS chunk WHERE false;
COMMENT ON VIEW rbytea_upload IS 'appends what is inserted or copied into it to uploads, and stores nothing';
CREATE FUNCTION rbytea_upload_row() RETURNS trigger
AS 'MODULE_PATHNAME', 'rbytea_upload_row_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_upload_row() IS 'trigger of the view rbytea_upload';

CREATE FUNCTION rbytea_agg_append(internal, bytea) RETURNS internal
AS 'MODULE_PATHNAME', 'rbytea_agg_append_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_agg_append(internal, bytea) IS 'aggregate transition function';
CREATE FUNCTION rbytea_agg_finish(internal) RETURNS rbytea
AS 'MODULE_PATHNAME', 'rbytea_agg_finish_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_agg_finish(internal) IS 'aggregate final function';
CREATE AGGREGATE rbytea_agg(bytea) (
    SFUNC = rbytea_agg_append, STYPE = internal, SSPACE = 65536,
    FINALFUNC = rbytea_agg_finish, FINALFUNC_MODIFY = READ_WRITE
);
COMMENT ON AGGREGATE rbytea_agg(bytea) IS 'concatenate aggregate input into a payload of any length';

CREATE FUNCTION rbytea_import(path text) RETURNS rbytea
AS 'MODULE_PATHNAME', 'rbytea_import_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION rbytea_import(text) IS 'the bytes of a file of the server';

CREATE FUNCTION rbytea_export(value rbytea, path text) RETURNS bigint
AS 'MODULE_PATHNAME', 'rbytea_export_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION rbytea_export(rbytea, text) IS 'write the payload to a file of the server; returns its length';

CREATE FUNCTION rbytea_from_lo(lo oid) RETURNS rbytea
AS 'MODULE_PATHNAME', 'rbytea_from_lo_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION rbytea_from_lo(oid) IS 'the bytes of a large object';

CREATE FUNCTION rbytea_read(value rbytea, "offset" bigint, length integer) RETURNS bytea
AS 'MODULE_PATHNAME', 'rbytea_read_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION rbytea_read(rbytea, bigint, integer) IS 'a range of the payload; the offset counts from 0';

CREATE FUNCTION rbytea_chunk_rows(value rbytea, size integer) RETURNS SETOF bytea
AS 'MODULE_PATHNAME', 'rbytea_chunk_rows_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE COST 100 ROWS 100;
COMMENT ON FUNCTION rbytea_chunk_rows(rbytea, integer) IS 'implementation of rbytea_chunks()';

-- Not STRICT, so that PostgreSQL inlines it in FROM: rows come one by one then, as from a select list, while those of any other function in
-- FROM are all put on disk before the first one is seen. The two sets of the select list go on together.
SET LOCAL search_path = pg_catalog, pg_temp;
CREATE FUNCTION @extschema@.rbytea_chunks(value @extschema@.rbytea, size integer DEFAULT 1048576, OUT no bigint, OUT "offset" bigint, OUT chunk bytea)
RETURNS SETOF record LANGUAGE sql STABLE PARALLEL SAFE COST 100 ROWS 100
BEGIN ATOMIC
    SELECT c.no, c.no * size, c.chunk
      FROM (SELECT pg_catalog.generate_series(0::bigint, (@extschema@.len(value) + size - 1) / greatest(size, 1) - 1) AS no,
                   @extschema@.rbytea_chunk_rows(value, size) AS chunk) AS c;
END;
SET LOCAL search_path = @extschema@, pg_temp;
COMMENT ON FUNCTION rbytea_chunks(rbytea, integer) IS 'the payload in chunks of so many bytes, one after the other; an error at the last one if they are not what was stored';

-- Storing: the row trigger and the event trigger that attaches it ---------------------------------------------------------

CREATE FUNCTION rbytea_externalize() RETURNS trigger
AS 'MODULE_PATHNAME', 'rbytea_externalize_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_externalize() IS 'row trigger that moves payloads into files; created by the extension itself';

CREATE FUNCTION rbytea_ddl_command_end() RETURNS event_trigger
AS 'MODULE_PATHNAME', 'rbytea_ddl_command_end_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_ddl_command_end() IS 'event trigger that gives tables with rbytea columns their row trigger';

CREATE FUNCTION rbytea_sql_drop() RETURNS event_trigger
AS 'MODULE_PATHNAME', 'rbytea_sql_drop_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_sql_drop() IS 'event trigger that takes the row trigger away with the last rbytea column';

CREATE FUNCTION rbytea_attach() RETURNS bigint
AS 'MODULE_PATHNAME', 'rbytea_attach_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_attach() IS 'put missing row triggers back; returns the number of tables changed';

CREATE EVENT TRIGGER rbytea_attach ON ddl_command_end
    WHEN TAG IN ('CREATE INDEX', 'CREATE STATISTICS', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'ALTER TABLE', 'ALTER TYPE',
                 'ALTER TRIGGER', 'CREATE VIEW', 'ALTER FOREIGN TABLE', 'CREATE MATERIALIZED VIEW',
                 'REFRESH MATERIALIZED VIEW')
    EXECUTE FUNCTION rbytea_ddl_command_end();
ALTER EVENT TRIGGER rbytea_attach ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER rbytea_attach IS 'gives tables with rbytea columns their row trigger';
CREATE EVENT TRIGGER rbytea_detach ON sql_drop EXECUTE FUNCTION rbytea_sql_drop();
ALTER EVENT TRIGGER rbytea_detach ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER rbytea_detach IS 'takes the row trigger away with the last rbytea column, and puts a dropped one back';

-- The vacuum ------------------------------------------------------------------------------------------------------------

CREATE TABLE rbytea.rbytea_vacuum_history (
    -- BY DEFAULT: what replicates by INSERT, as pglogical may, brings ids along; the rows are discarded.
    id                bigint GENERATED BY DEFAULT AS IDENTITY,
    origin            text NOT NULL,
    system_identifier bigint NOT NULL,
    database          oid NOT NULL,
    started           timestamptz NOT NULL,
    finished          timestamptz NOT NULL,
    lsn               pg_lsn,
    xid               xid8,
    moved_at          timestamptz,
    lower             xid8,
    upper             xid8,
    horizon           xid8,
    activity          bigint,
    relations         bigint NOT NULL,
    tuples            bigint NOT NULL,
    directories       bigint NOT NULL,
    files             bigint NOT NULL,
    recently_dead     bigint NOT NULL,
    not_judged        bigint NOT NULL,
    trashed           bigint NOT NULL,
    bytes             bigint NOT NULL,
    restored          bigint NOT NULL,
    lost              bigint NOT NULL,
    purged            bigint NOT NULL,
    purged_bytes      bigint NOT NULL,
    live_bytes        bigint,
    trash_files       bigint,
    trash_bytes       bigint,
    oldest_trash      timestamptz,
    error             text,
    -- A row of another cluster that gets in all the same is in the way of none.
    PRIMARY KEY (system_identifier, database, id)
);
COMMENT ON TABLE rbytea.rbytea_vacuum_history IS 'what each run of the vacuum did; also the lock that keeps it to one run at a time';
COMMENT ON SEQUENCE rbytea.rbytea_vacuum_history_id_seq IS 'numbers the runs';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.origin IS 'rvacuum, rvacuum_purge or background';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.system_identifier IS 'system identifier of the cluster; what has another one, or the OID of another database, tells nothing about this store, and goes with the next run';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.database IS 'OID of the database; rows that came from a template have the OID of that';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.lsn IS 'end of the WAL that was flushed before files were moved';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.xid IS 'transaction that wrote this row, begun after the moves; NULL if the run failed before them';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.moved_at IS 'date that the files moved to TRASH have; NULL if there was nothing to judge, or the run failed before the moves';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.lower IS 'first birth transaction that was swept; 0 if the whole store was';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.upper IS 'every transaction below had ended; files born below were swept';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.horizon IS 'removal horizon during the mark';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.activity IS 'fingerprint of what rows may have died in, before a sweep of the whole store';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.relations IS 'relations scanned';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.tuples IS 'tuples looked at';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.directories IS 'directories of LIVE read';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.files IS 'files seen in LIVE';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.recently_dead IS 'references in deleted rows that an old snapshot may still see';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.not_judged IS 'files of transactions that had not ended, or that began after the oldest of those';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.trashed IS 'files moved to TRASH';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.bytes IS 'bytes of the files moved to TRASH';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.restored IS 'files moved back from TRASH because a tuple refers to them';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.lost IS 'payloads that tuples refer to and that are nowhere';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.purged IS 'files deleted from TRASH';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.purged_bytes IS 'bytes of the files deleted from TRASH';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.live_bytes IS 'bytes in LIVE that tuples refer to, after a sweep of the whole store';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.trash_files IS 'files left in TRASH by a sweep of the whole store';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.trash_bytes IS 'bytes left in TRASH by a sweep of the whole store';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.oldest_trash IS 'date of the oldest file left in TRASH by a sweep of the whole store';
COMMENT ON COLUMN rbytea.rbytea_vacuum_history.error IS 'why the run ended early; NULL if it did not';

-- With a publication FOR ALL TABLES the rows of another cluster's history arrive here, by the copy of its table and with each
-- of its runs. They tell nothing about this store, and an id that both have would end the apply worker again and again.
CREATE FUNCTION rbytea_discard_replicated() RETURNS trigger
AS 'MODULE_PATHNAME', 'rbytea_discard_replicated_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_discard_replicated() IS 'row trigger that discards what replication brings into rbytea_vacuum_history';

CREATE TRIGGER rbytea_discard_replicated BEFORE INSERT OR UPDATE OR DELETE ON rbytea.rbytea_vacuum_history
    FOR EACH ROW EXECUTE FUNCTION rbytea_discard_replicated();
ALTER TABLE rbytea.rbytea_vacuum_history ENABLE REPLICA TRIGGER rbytea_discard_replicated;
COMMENT ON TRIGGER rbytea_discard_replicated ON rbytea.rbytea_vacuum_history IS 'discards what replication brings';

CREATE FUNCTION rvacuum() RETURNS bigint
AS 'MODULE_PATHNAME', 'rvacuum_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION rvacuum() IS 'move payload files that no tuple refers to into TRASH; returns how many';

CREATE FUNCTION rvacuum_purge() RETURNS bigint
AS 'MODULE_PATHNAME', 'rvacuum_purge_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION rvacuum_purge() IS 'rvacuum(), and delete from TRASH without waiting for the retention what no session can refer to; returns how many files';

CREATE FUNCTION rvacuum_plan(OUT action text, OUT uuid uuid, OUT birth xid8, OUT bytes bigint, OUT reason text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'rvacuum_plan_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION rvacuum_plan() IS 'what rvacuum() would move now, and why; moves nothing';

CREATE FUNCTION rbytea_adopt_store() RETURNS text
AS 'MODULE_PATHNAME', 'rbytea_adopt_store_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_adopt_store() IS 'make this cluster the owner of the payload store, after a promotion or a restore; returns the previous owner';

-- What the vacuum does, and what it waits for ----------------------------------------------------------------------------

-- The bodies and views of this part are bound to functions and operators now. Without the extension's schema on the path, in
-- which another user may have made one that fits better.
SET LOCAL search_path = pg_catalog, pg_temp;

-- Everything in this cluster that may keep garbage: in which database (NULL: in all of them), and what tells whether it is older
-- than a run, that is the age of its transaction id or xmin, the start of its statement, and from where it will read the WAL of
-- this database. What works for a subscription is named after it: on the subscriber as in pg_subscription, on the publisher as
-- the walsender's client calls itself, which is the subscription's name unless its connection string sets another.
CREATE FUNCTION @extschema@.rbytea_holding(
    OUT holder text, OUT database name, OUT age integer, OUT since timestamptz, OUT lsn pg_lsn) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH slot AS (
        SELECT s.*, CASE WHEN s.slot_name ~ '^pg_[0-9]+_sync_[0-9]+_[0-9]+$' THEN 'initial copy of a table by a subscription'
                         WHEN s.plugin IN ('pgoutput', 'pglogical_output')
                             THEN concat_ws(' ', 'subscription', quote_ident(r.application_name))
                         ELSE COALESCE(s.plugin, 'standby ' || quote_ident(r.application_name), 'physical') END AS reader
          FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid),
    process AS (
        SELECT a.*, r.replay_lsn,
               COALESCE('subscription ' || quote_ident(w.subname), CASE WHEN r.pid = s.active_pid THEN s.reader END,
                        CASE WHEN r.application_name ~ '^pg_[0-9]+_sync_[0-9]+_[0-9]+$'
                                 THEN 'initial copy of a table by a subscription'
                             WHEN a.datid IS NULL THEN 'standby ' || quote_ident(r.application_name) END) AS works_for,
               CASE WHEN w.relid IS NULL THEN a.backend_type ELSE 'initial copy of a table' END AS kind
          FROM pg_stat_activity a
          LEFT JOIN pg_stat_subscription w ON w.pid = a.pid
          LEFT JOIN pg_stat_replication r ON r.pid = a.pid
          LEFT JOIN slot s ON s.active_pid = r.pid
         WHERE a.pid <> pg_backend_pid())
    SELECT CASE WHEN works_for IS NULL THEN format('process %s (%s)', pid, concat_ws(', ', kind, state))
                ELSE format('%s (process %s, %s)', works_for, pid, concat_ws(', ', kind, state)) END,
           datname, GREATEST(age(backend_xid), age(backend_xmin)),
           CASE WHEN datid IS NOT NULL AND state IS DISTINCT FROM 'idle'
                     AND backend_type NOT IN ('autovacuum worker', 'walsender')
                THEN CASE WHEN state IS NOT NULL THEN COALESCE(LEAST(query_start, xact_start), backend_start)
                          WHEN xact_start IS NOT NULL OR backend_xid IS NOT NULL OR backend_xmin IS NOT NULL
                               OR wait_event_type IS NULL
                               OR wait_event_type NOT IN ('Activity', 'Extension') THEN backend_start END END,
           replay_lsn
      FROM process
    UNION ALL
    SELECT concat('prepared transaction ', quote_literal(p.gid), ' (subscription ' || quote_ident(s.subname) || ')'),
           p.database, age(p.transaction), NULL, NULL
      FROM pg_prepared_xacts p
      LEFT JOIN pg_subscription s ON s.oid::text = substring(p.gid FROM '^pg_gid_([0-9]+)_[0-9]+$')
    UNION ALL
    SELECT format('replication slot %s (%s, %s)', slot_name, reader, COALESCE('process ' || active_pid, 'inactive')),
           NULL, age(xmin), NULL, CASE WHEN database IS NULL OR database = current_database() THEN restart_lsn END
      FROM slot;
END;
COMMENT ON FUNCTION @extschema@.rbytea_holding() IS 'sessions, slots, standbys and prepared transactions that may keep garbage, and what tells how old they are';

CREATE FUNCTION @extschema@.rbytea_holders(OUT holder text, OUT age integer) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT h.holder, h.age FROM @extschema@.rbytea_holding() h WHERE h.age IS NOT NULL ORDER BY h.age DESC;
END;
COMMENT ON FUNCTION @extschema@.rbytea_holders() IS 'sessions, slots and prepared transactions that garbage waits for, the oldest first';

CREATE FUNCTION @extschema@.rbytea_has_keepers() RETURNS boolean
AS 'MODULE_PATHNAME', 'rbytea_has_keepers_wrapper' LANGUAGE c VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.rbytea_has_keepers() IS 'whether checkpoints wait for the payloads in the WAL, so that commits need not';

CREATE FUNCTION @extschema@.rbytea_purge_obstacle() RETURNS text
AS 'MODULE_PATHNAME', 'rbytea_purge_obstacle_wrapper' LANGUAGE c STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.rbytea_purge_obstacle() IS 'a cursor or temporary table of another session that keeps everything in TRASH; NULL if there is none';

-- What the oldest file in TRASH waits for: it may go when no session can have a reference from before the run that moved it.
CREATE FUNCTION @extschema@.rbytea_purge_holders() RETURNS SETOF text
LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH own AS (SELECT h.* FROM rbytea.rbytea_vacuum_history h, pg_database d, pg_control_system() c
                  WHERE d.datname = current_database() AND h.database = d.oid AND h.system_identifier = c.system_identifier),
         whole AS (SELECT * FROM own WHERE lower = '0' AND error IS NULL ORDER BY id DESC LIMIT 1),
         oldest AS (SELECT COALESCE((SELECT oldest_trash FROM whole),
                                    (SELECT min(moved_at) FROM own
                                      WHERE trashed > 0 AND id > (SELECT COALESCE(max(id), 0) FROM whole))) AS moved_at),
         run AS (SELECT own.xid, own.lsn, own.moved_at
                   FROM own, oldest
                  WHERE own.moved_at >= oldest.moved_at ORDER BY own.moved_at LIMIT 1),
         -- Transactions since then; an id that is too old to be compared holds nothing.
         since AS (SELECT age(xid::xid) AS age FROM run
                    WHERE pg_snapshot_xmax(pg_current_snapshot())::text::bigint - xid::text::bigint < 2000000000)
    SELECT format('rbytea.trash_retention = %s', retention)
      FROM oldest, current_setting('rbytea.trash_retention', true) AS retention
     WHERE oldest.moved_at IS NOT NULL AND (retention = '-1' OR oldest.moved_at + retention::interval > now())
    UNION ALL
    SELECT obstacle FROM run, @extschema@.rbytea_purge_obstacle() AS obstacle WHERE obstacle IS NOT NULL
    UNION ALL
    SELECT h.holder
      FROM run LEFT JOIN since ON true, @extschema@.rbytea_holding() h
     WHERE (h.database IS NULL OR h.database = current_database()) AND (h.age >= since.age OR h.since <= run.moved_at)
        OR h.lsn < run.lsn;
END;
COMMENT ON FUNCTION @extschema@.rbytea_purge_holders() IS 'what keeps the oldest file in TRASH: the retention, and what may still hold a reference to it';

CREATE FUNCTION @extschema@.rbytea_vacuum_progress(
    OUT pid integer, OUT datid oid, OUT phase text, OUT relations_total bigint, OUT relations_done bigint,
    OUT relid oid, OUT tuples bigint, OUT directories bigint, OUT files bigint, OUT moved bigint, OUT purged bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'rbytea_vacuum_progress_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.rbytea_vacuum_progress() IS 'runs of the vacuum that are going on in this cluster';

CREATE VIEW rbytea.rbytea_stat_progress_vacuum AS
    SELECT p.pid, p.datid, d.datname, p.phase, p.relations_total, p.relations_done, p.relid, p.tuples, p.directories,
           p.files, p.moved, p.purged
      FROM @extschema@.rbytea_vacuum_progress() p LEFT JOIN pg_catalog.pg_database d ON d.oid = p.datid;
COMMENT ON VIEW rbytea.rbytea_stat_progress_vacuum IS 'runs of the vacuum that are going on in this cluster';

CREATE VIEW rbytea.rbytea_stat AS
    WITH own AS (SELECT h.* FROM rbytea.rbytea_vacuum_history h, pg_catalog.pg_database d, pg_catalog.pg_control_system() c
                  WHERE d.datname = pg_catalog.current_database() AND h.database = d.oid
                    AND h.system_identifier = c.system_identifier),
         last AS (SELECT * FROM own ORDER BY id DESC LIMIT 1),
         done AS (SELECT * FROM own WHERE error IS NULL ORDER BY id DESC LIMIT 1),
         whole AS (SELECT * FROM own WHERE error IS NULL AND lower = '0' ORDER BY id DESC LIMIT 1),
         failed AS (SELECT * FROM own WHERE error IS NOT NULL ORDER BY id DESC LIMIT 1)
    SELECT pg_catalog.current_database() AS datname,
           whole.files - whole.trashed + whole.restored AS live_files, whole.live_bytes,
           whole.trash_files, whole.trash_bytes, whole.oldest_trash,
           whole.finished AS last_whole_sweep, done.finished AS last_success, last.finished AS last_run,
           failed.finished AS last_failure, failed.error AS last_error,
           done.upper AS swept_before, done.recently_dead, done.not_judged, whole.lost,
           ARRAY(SELECT holder FROM @extschema@.rbytea_holders()) AS held_by,
           ARRAY(SELECT @extschema@.rbytea_purge_holders()) AS purge_held_by
      FROM (SELECT) AS one
      LEFT JOIN last ON true LEFT JOIN done ON true LEFT JOIN whole ON true LEFT JOIN failed ON true;
COMMENT ON VIEW rbytea.rbytea_stat IS 'the payload store of this database: files and bytes after the last sweep of the whole store, runs, errors, what garbage waits for';

SET LOCAL search_path = @extschema@, pg_temp;

-- Is everything there? ------------------------------------------------------------------------------------------------

CREATE FUNCTION rbytea_check(target regclass DEFAULT NULL, digest boolean DEFAULT false,
    OUT relation regclass, OUT ctid tid, OUT uuid uuid, OUT problem text, OUT path text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'rbytea_check_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_check(regclass, boolean) IS 'what is wrong between the rows of a table, or of the whole database, and the payload files; with digest, reads every payload; changes nothing, and works on a standby';

CREATE FUNCTION rbytea_larger_than(bytes bigint DEFAULT 535822336, target regclass DEFAULT NULL,
    OUT relation regclass, OUT ctid tid, OUT len bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'rbytea_larger_than_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_larger_than(bigint, regclass) IS 'rows whose payloads have together more than so many bytes: by default those that pg_dump and logical replication cannot take';

CREATE FUNCTION rbytea_store_progress(
    OUT pid integer, OUT datid oid, OUT payloads bigint, OUT bytes bigint, OUT payload_bytes_done bigint, OUT payload_bytes_total bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'rbytea_store_progress_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION rbytea_store_progress() IS 'transactions of this cluster that are storing payloads';

CREATE VIEW rbytea.rbytea_stat_progress_store AS
    SELECT p.pid, p.datid, d.datname, p.payloads, p.bytes, p.payload_bytes_done, p.payload_bytes_total
      FROM rbytea_store_progress() p LEFT JOIN pg_catalog.pg_database d ON d.oid = p.datid;
COMMENT ON VIEW rbytea.rbytea_stat_progress_store IS 'transactions of this cluster that are storing payloads';

-- Encryption ------------------------------------------------------------------------------------------------------------

CREATE FUNCTION rbytea_keys(OUT id integer, OUT fingerprint text, OUT payloads bigint) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'rbytea_keys_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_keys() IS 'keys of the key file and keys that payloads of this database need (fingerprint NULL: not in the key file), with the number of payloads';

CREATE PROCEDURE rbytea_reencrypt(relation regclass, batch integer DEFAULT 1000)
AS 'MODULE_PATHNAME', 'rbytea_reencrypt_wrapper' LANGUAGE c;
COMMENT ON PROCEDURE rbytea_reencrypt(regclass, integer) IS 'write the payloads of a table once more as new ones are written: with the newest key if rbytea.qss_mode is on, plain otherwise; commits after each batch of payloads';

CREATE FUNCTION rbytea_reencrypt_progress(
    OUT pid integer, OUT datid oid, OUT relid oid, OUT blocks_total bigint, OUT blocks_done bigint, OUT payloads bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'rbytea_reencrypt_progress_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION rbytea_reencrypt_progress() IS 'calls of rbytea_reencrypt() that are going on in this cluster';

CREATE VIEW rbytea.rbytea_stat_progress_reencrypt AS
    SELECT p.pid, p.datid, d.datname, p.relid, p.blocks_total, p.blocks_done, p.payloads
      FROM rbytea_reencrypt_progress() p LEFT JOIN pg_catalog.pg_database d ON d.oid = p.datid;
COMMENT ON VIEW rbytea.rbytea_stat_progress_reencrypt IS 'calls of rbytea_reencrypt() that are going on in this cluster';

CREATE FUNCTION rbytea_clone_from(template name) RETURNS bigint
AS 'MODULE_PATHNAME', 'rbytea_clone_from_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION rbytea_clone_from(name) IS 'give this database the payload files of the database that it was made from; returns how many';

-- Rights ----------------------------------------------------------------------------------------------------------------

REVOKE ALL ON FUNCTION rbytea_upload_row() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_import(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_export(rbytea, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION rvacuum() FROM PUBLIC;
REVOKE ALL ON FUNCTION rvacuum_purge() FROM PUBLIC;
REVOKE ALL ON FUNCTION rvacuum_plan() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_attach() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_adopt_store() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_externalize() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_ddl_command_end() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_sql_drop() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_clone_from(name) FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_discard_replicated() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_holding() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_holders() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_has_keepers() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_purge_obstacle() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_purge_holders() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_vacuum_progress() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_keys() FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_check(regclass, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_larger_than(bigint, regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_store_progress() FROM PUBLIC;
REVOKE ALL ON PROCEDURE rbytea_reencrypt(regclass, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION rbytea_reencrypt_progress() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rbytea_has_keepers(), rbytea_holders(), rbytea_purge_holders(), rbytea_vacuum_progress(), rbytea_reencrypt_progress(), rbytea_store_progress() TO pg_monitor;
GRANT INSERT ON rbytea_upload TO PUBLIC;
GRANT EXECUTE ON FUNCTION rbytea_import(text) TO pg_read_server_files;
GRANT EXECUTE ON FUNCTION rbytea_export(rbytea, text) TO pg_write_server_files;
GRANT SELECT ON rbytea.rbytea_vacuum_history, rbytea.rbytea_stat, rbytea.rbytea_stat_progress_vacuum, rbytea.rbytea_stat_progress_reencrypt,
    rbytea.rbytea_stat_progress_store TO pg_monitor;

-- The view's trigger ------------------------------------------------------------------------------------------------------

SELECT @extschema@.rbytea_attach();
