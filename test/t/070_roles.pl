# No role can do more than its part.
#
# Every object of the extension is held against every role, twice: the privileges that the
# catalog grants must be those listed in test/roles.matrix, and where the list grants
# nothing an attempt must end in "permission denied".  A new object without a line in the
# list fails, and so does a line without an object.
#
# To see what the catalog says, in the list's own form: APM_PRINT_MATRIX=1.

use strict;
use warnings;

use lib 'test/perl';
use ApmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital');
my @roles = qw(outsider apm_admin apm_registrar apm_clinician apm_sensor apm_researcher apm_auditor apm_peer apm_worker);

$node->safe_psql('clinic', 'CREATE ROLE outsider LOGIN');

my $members = q(
	SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON d.refobjid = e.oid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'apm');
my $roles = "unnest('{" . join(',', @roles) . "}'::name[]) WITH ORDINALITY AS r (role, nr)";

# Sequences of identity columns belong to their table, not to the extension: find them by schema.
my $granted = qq(
	SELECT format('%s: %s', line.object, string_agg(line.role || '=' || line.privileges, ' ' ORDER BY line.nr))
	FROM (
		SELECT 'function ' || p.oid::regprocedure::text AS object, r.role, r.nr, 'EXECUTE' AS privileges
		FROM pg_proc AS p, $roles
		WHERE p.oid IN (SELECT objid FROM ($members) AS m WHERE m.classid = 'pg_proc'::regclass)
		 AND has_function_privilege(r.role, p.oid, 'EXECUTE')
		UNION ALL
		SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'S' THEN 'sequence ' ELSE 'table ' END || c.oid::regclass::text,
			r.role, r.nr, string_agg(v.privilege, ',' ORDER BY v.privilege)
		FROM pg_class AS c, $roles,
			unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER,USAGE}'::text[]) AS v (privilege)
		WHERE c.relkind IN ('r', 'v', 'S', 'f', 'm', 'p')
		 AND (c.relnamespace = 'apm'::regnamespace
			OR c.oid IN (SELECT objid FROM ($members) AS m WHERE m.classid = 'pg_class'::regclass))
		 AND CASE WHEN c.relkind = 'S' THEN v.privilege IN ('SELECT', 'UPDATE', 'USAGE')
			AND has_sequence_privilege(r.role, c.oid, CASE WHEN v.privilege IN ('SELECT', 'UPDATE', 'USAGE') THEN v.privilege ELSE 'USAGE' END)
			ELSE v.privilege <> 'USAGE' AND (has_table_privilege(r.role, c.oid, CASE v.privilege WHEN 'USAGE' THEN 'SELECT' ELSE v.privilege END)
				OR CASE WHEN v.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
					THEN has_any_column_privilege(r.role, c.oid, v.privilege) ELSE false END) END
		GROUP BY c.oid, c.relkind, r.role, r.nr
		UNION ALL
		SELECT 'schema ' || n.nspname, r.role, r.nr, string_agg(v.privilege, ',' ORDER BY v.privilege)
		FROM pg_namespace AS n, $roles, unnest('{USAGE,CREATE}'::text[]) AS v (privilege)
		WHERE n.nspname = 'apm' AND has_schema_privilege(r.role, n.oid, v.privilege)
		GROUP BY n.nspname, r.role, r.nr
	) AS line
	GROUP BY line.object ORDER BY line.object COLLATE "C");

my @found = split(/\n/, $node->safe_psql('clinic', $granted));

if ($ENV{APM_PRINT_MATRIX})
{
	diag(join("\n", @found));
}

my @listed = grep { !/^\s*(#|$)/ } split(/\n/, slurp_file('test/roles.matrix'));

is_deeply(\@found, [ sort @listed ], 'the catalog grants what test/roles.matrix lists, and nothing else')
  or diag(difference(\@found, \@listed));

# The attempts; each is undone.  A NULL comes from a subquery, or the planner would answer for a strict
# function without calling it.
my $attempt = q(
	DO $do$
	DECLARE
		attempt record;
	BEGIN
		FOR attempt IN SELECT * FROM pg_temp.attempts
		LOOP
			BEGIN
				EXECUTE format('SET LOCAL ROLE %I', attempt.role);
				EXECUTE attempt.sql;
				RAISE EXCEPTION 'went through' USING ERRCODE = 'P9999';
			EXCEPTION
				WHEN insufficient_privilege THEN
					INSERT INTO pg_temp.outcome VALUES (attempt.role, attempt.sql, '42501');
				WHEN OTHERS THEN
					INSERT INTO pg_temp.outcome VALUES (attempt.role, attempt.sql, SQLSTATE);
			END;
		END LOOP;
	END
	$do$;);
my $attempts = qq(
	CREATE TEMP TABLE outcome (role name, sql text, state text);
	CREATE TEMP TABLE attempts AS
		SELECT r.role, CASE p.prokind
			WHEN 'p' THEN format('CALL %s(%s)', p.oid::regproc,
				(SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ') FROM unnest(p.proargtypes) AS t))
			ELSE format('SELECT %s(%s)', p.oid::regproc,
				(SELECT string_agg(format('(SELECT NULL::%s)', format_type(t, NULL)), ', ') FROM unnest(p.proargtypes) AS t)) END AS sql
		FROM pg_proc AS p, $roles
		WHERE p.oid IN (SELECT objid FROM ($members) AS m WHERE m.classid = 'pg_proc'::regclass)
		 AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
		 AND NOT has_function_privilege(r.role, p.oid, 'EXECUTE')
		UNION ALL
		SELECT r.role, format(v.sql, c.oid::regclass)
		FROM pg_class AS c, $roles,
			(VALUES ('SELECT', 'SELECT FROM %s'), ('INSERT', 'INSERT INTO %s DEFAULT VALUES'),
				('DELETE', 'DELETE FROM %s'), ('TRUNCATE', 'TRUNCATE %s'), ('TRIGGER', 'LOCK TABLE %s')) AS v (privilege, sql)
		WHERE c.relnamespace = 'apm'::regnamespace AND c.relkind IN ('r', 'v')
		 AND (c.relkind = 'r' OR v.privilege = 'SELECT' OR (c.relname = 'patient_record' AND v.privilege = 'INSERT'))
		 AND CASE v.privilege WHEN 'TRIGGER'
			THEN NOT has_table_privilege(r.role, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
			ELSE NOT has_table_privilege(r.role, c.oid, v.privilege) END;
	$attempt
	SELECT count(*) FROM outcome WHERE state = '42501';
	SELECT role, sql, state FROM outcome WHERE state <> '42501';);
my ($denied, @through) = split(/\n/, $node->safe_psql('clinic', $attempts));

cmp_ok($denied, '>', 500, 'attempts were made and denied');
is_deeply(\@through, [], 'every attempt beyond a role\'s part is denied') or diag(join("\n", @through));

# Roles give nothing on, and nobody logs in as the workers.
is(query($node, 'clinic', q(SELECT count(*) FROM pg_roles WHERE rolname LIKE 'apm\_%'
	AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls))),
	'0', 'no role of apm has rights over the server');
is(query($node, 'clinic', q(SELECT count(*) FROM pg_auth_members WHERE member::regrole::text LIKE 'apm\_%')),
	'0', 'no role of apm is a member of another role');
my ($ok, $out, $err) = $node->psql('clinic', 'SELECT 1', connstr => $node->connstr('clinic') . ' user=apm_worker');
like($err, qr/too many connections for role "apm_worker"/, 'nobody logs in as apm_worker');
foreach my $granted (qw(USAGE CREATE))
{
	is(query($node, 'clinic', "SELECT has_schema_privilege('outsider', 'apm', '$granted')"), 'f', "an outsider has no $granted on the schema");
}

$node->stop;
done_testing();

sub difference
{
	my ($got, $want) = @_;
	my %got = map { $_ => 1 } @$got;
	my %want = map { $_ => 1 } @$want;

	return join("\n", (map { "not listed: $_" } grep { !$want{$_} } @$got), (map { "not granted: $_" } grep { !$got{$_} } @$want));
}
