# A patient's consent, told from the sessions of those concerned: who may read before and after a
# grant, a withdrawal, an end, for which purpose; who may enter consent, and for whom not.

use strict;
use warnings;

use FindBin;
use lib 'test/perl';
use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# two hospitals' databases, one a policy: clinicians read unless the patient withdrew; nobody reads without a grant
my $node = apm_node('hospital', databases => [ 'clinic', 'strict' ], setup => 0,
	settings => { max_prepared_transactions => 2, log_statement => 'none' });
$node->safe_psql('clinic', 'SELECT apm_setup(8)');
$node->safe_psql('strict', q{SELECT apm_setup(8, access => 'consent')});
$node->safe_psql('postgres', q{
	CREATE ROLE clerk LOGIN; GRANT apm_registrar TO clerk;
	CREATE ROLE other_clerk LOGIN; GRANT apm_registrar TO other_clerk;
	CREATE ROLE doctor LOGIN; GRANT apm_clinician TO doctor;
	CREATE ROLE ward; CREATE ROLE nurse LOGIN; GRANT ward, apm_clinician TO nurse;
	CREATE ROLE hybrid LOGIN; GRANT apm_registrar, apm_clinician TO hybrid;
	CREATE ROLE desk LOGIN NOINHERIT; GRANT clerk, doctor TO desk;
	CREATE ROLE porter LOGIN; GRANT clerk, doctor TO porter;
	CREATE ROLE chief LOGIN; GRANT apm_admin TO chief;
	CREATE ROLE auditor LOGIN; GRANT apm_auditor TO auditor;
	CREATE ROLE office; GRANT office TO clerk;
	CREATE ROLE relative LOGIN});
foreach my $database (qw(clinic strict))
{
	in_session($node, $database, 'clerk', q{SELECT apm_register_patient(pid, '{"Firstname": "Amina"}') FROM unnest('{a,b,c,d,e}'::text[]) AS pid});
	in_session($node, $database, 'doctor', q{INSERT INTO apm.patient_record (pid, record) SELECT pid, '{"Disease": "Fever"}' FROM unnest('{a,b,c,d,e}'::text[]) AS pid});
	wait_for($node, $database, q{SELECT count(*) = 5 FROM apm.ledger_record}, "$database: the records are there");
}
$node->safe_psql('strict', 'GRANT EXECUTE ON FUNCTION apm_fetch(text, text, boolean, jsonb) TO relative');

# Enters something as a registrar and waits until it is in a block.
sub enter
{
	my ($database, $sql, $role) = @_;
	my $tid = in_session($node, $database, $role // 'clerk', "SELECT $sql");

	like($tid, qr/^[0-9a-f-]{36}$/, "entered: $sql");
	poll($node, $database, "SELECT count(*) = 1 FROM apm.leaf WHERE tid = '$tid'") or die "not in a block: $sql";
	is($node->safe_psql($database, "SELECT rule FROM apm.leaf WHERE tid = '$tid'"), '0', 'and the contract admits it');
	return $tid;
}

sub fetch
{
	my ($pid, $purpose) = @_;
	return 'SELECT count(*) FROM apm_fetch(' . join(', ', map { "'$_'" } grep { defined } $pid, $purpose) . ')';
}

sub reads
{
	my ($database, $role, $pid, $purpose, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(in_session($node, $database, $role, fetch($pid, $purpose)), '1', $name);
}

sub refused
{
	my ($database, $role, $pid, $purpose, $name, $rule) = @_;
	my $queries = $node->safe_psql($database, 'SELECT count(*) FROM apm.ledger_query WHERE rule <> 0');

	$rule //= 'consent';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	fails_in_session($node, $database, $role, fetch($pid, $purpose), 'AP001', qr/rule "$rule"/, $name);
	return is($node->safe_psql($database, 'SELECT count(*) FROM apm.ledger_query WHERE rule <> 0'), $queries + 1,
		'and that is in the ledger');
}

# --- clinicians read unless the patient withdrew
reads('clinic', 'doctor', 'a', undef, 'a clinician reads');
enter('clinic', q{apm_revoke_access('a')});
refused('clinic', 'doctor', 'a', undef, 'not after the patient withdrew');
refused('clinic', 'nurse', 'a', 'treatment', 'nor does another clinician, for any purpose');
reads('clinic', 'doctor', 'b', undef, 'that was one patient, and not another');
enter('clinic', q{apm_grant_access('a', 'doctor')});
reads('clinic', 'doctor', 'a', undef, 'a later grant lets one in again');
refused('clinic', 'nurse', 'a', undef, 'and nobody else');
enter('clinic', q{apm_revoke_access('a', 'doctor')});
refused('clinic', 'doctor', 'a', undef, 'the later word counts');
enter('clinic', q{apm_grant_access('a', 'apm_clinician')});
reads('clinic', 'nurse', 'a', undef, 'granted to the role of all clinicians, they read again');
enter('clinic', q{apm_revoke_access('a', 'ward')});
refused('clinic', 'nurse', 'a', undef, 'taken from a group, its members do not');
reads('clinic', 'doctor', 'a', undef, 'the others do');
enter('clinic', q{apm_revoke_access('b', purpose => 'operations')});
refused('clinic', 'doctor', 'b', 'operations', 'withdrawn for one purpose');
reads('clinic', 'doctor', 'b', 'treatment', 'it holds for that one alone');
reads('clinic', 'doctor', 'b', undef, 'and not where no purpose is stated');
enter('clinic', q{apm_grant_access('b', 'doctor', purpose => 'operations')});
reads('clinic', 'doctor', 'b', 'operations', 'a later grant for the purpose takes it back');

# --- nobody reads without a grant
refused('strict', 'doctor', 'a', undef, 'no grant, no reading');
enter('strict', q{apm_grant_access('a', 'doctor', now() + interval '1 year')});
reads('strict', 'doctor', 'a', 'treatment', 'granted until later, the doctor reads');
refused('strict', 'nurse', 'a', undef, 'nobody else does');
refused('strict', 'doctor', 'b', undef, 'nor he somebody else');
enter('strict', q{apm_grant_access('b', 'doctor', 'infinity', 'treatment')});
reads('strict', 'doctor', 'b', 'treatment', 'granted for a purpose');
refused('strict', 'doctor', 'b', 'operations', 'not for another');
refused('strict', 'doctor', 'b', undef, 'nor for none');
enter('strict', q{apm_grant_access('c', 'ward')});
reads('strict', 'nurse', 'c', undef, 'granted to a group, its member reads');
refused('strict', 'doctor', 'c', undef, 'somebody outside does not');
enter('strict', q{apm_grant_access('d', 'relative')});
reads('strict', 'relative', 'd', undef, 'a grantee need not be a clinician');
enter('strict', q{apm_revoke_access('d')});
refused('strict', 'relative', 'd', undef, 'a withdrawal beats his grant');
enter('strict', q{apm_revoke_access('a', 'ward')});
reads('strict', 'doctor', 'a', undef, 'what is taken from a group does not touch the others');

# a grant ends by itself, by the time of the block that the query stands in
enter('strict', q{apm_grant_access('e', 'doctor', now() + interval '3 seconds')});
reads('strict', 'doctor', 'e', undef, 'until its end a grant holds');
ok(poll_refused('strict', 'doctor', 'e'), 'then it has ended');
fails_in_session($node, 'strict', 'clerk', q{SELECT apm_grant_access('e', 'doctor', now() - interval '1 second')}, '22023',
	qr/would have ended already/, 'a grant does not end before it begins');
refused('strict', 'doctor', 'e', undef, 'and did not begin');

# --- registered and granted in one transaction, and taken back with one
in_session($node, 'strict', 'clerk', q{BEGIN; SELECT apm_register_patient('f', '{"Firstname": "Fatma"}'); SELECT apm_grant_access('f', 'doctor'); COMMIT});
in_session($node, 'strict', 'doctor', q{SELECT apm_submit('f', '"f1"')});
wait_for($node, 'strict', q{SELECT count(*) = 6 FROM apm.ledger_record}, 'the record of a new patient is there');
reads('strict', 'doctor', 'f', undef, 'a patient who was registered and granted in one transaction');
my $consents = q{SELECT (SELECT count(*) FROM apm.ledger_consent) + (SELECT count(*) FROM apm.queue)};
my $before = $node->safe_psql('strict', $consents);
in_session($node, 'strict', 'clerk', q{BEGIN; SELECT apm_revoke_access('f'); ROLLBACK});
in_session($node, 'strict', 'clerk', q{BEGIN; SAVEPOINT s; SELECT apm_revoke_access('f'); ROLLBACK TO s; COMMIT});
in_session($node, 'strict', 'clerk', q{DO $$ BEGIN PERFORM apm_revoke_access('f'); RAISE 'undo'; EXCEPTION WHEN OTHERS THEN NULL; END $$});
fails_in_session($node, 'strict', 'clerk', q{BEGIN; SELECT apm_revoke_access('f'); PREPARE TRANSACTION 'later'}, '0A000', qr/./,
	'consent is not prepared');
is($node->safe_psql('strict', $consents), $before, 'what is rolled back was not said');
reads('strict', 'doctor', 'f', undef, 'and does not hold');

# --- a registrar reads nothing, whatever else he is
fails_in_session($node, 'strict', 'clerk', fetch('a'), '42501', qr/permission denied for function apm_fetch/, 'a registrar has no function to read with');
enter('strict', q{apm_grant_access('a', 'other_clerk')});
$node->safe_psql('strict', 'GRANT EXECUTE ON FUNCTION apm_fetch(text, text, boolean, jsonb) TO other_clerk');
refused('strict', 'other_clerk', 'a', undef, 'if he has, and a grant, the contract refuses', 'actor');
refused('clinic', 'hybrid', 'b', undef, 'nor does a registrar read who is a clinician as well', 'actor');
fails_in_session($node, 'clinic', $_->[0], "SET ROLE $_->[1]; " . fetch('b'), 'AP001', qr/rule "actor"/, "nor acting as what he is beside: $_->[0] as $_->[1]")
  foreach [ 'hybrid', 'apm_clinician' ], [ 'porter', 'doctor' ];
is(in_session($node, 'clinic', 'desk', 'SET ROLE doctor; ' . fetch('b')), '1', 'a login that inherits nothing is whom it acts as');

# --- nobody else enters consent
foreach my $role (qw(chief doctor auditor relative))
{
	fails_in_session($node, 'strict', $role, $_, '42501', qr/permission denied for function/, "$role: $_")
	  foreach (q{SELECT apm_grant_access('a', 'nurse')}, q{SELECT apm_revoke_access('a')});
}
fails_with($node, 'strict', q{SELECT apm_grant_access('a', 'nurse')}, '42501', qr/permission denied to enter a patient's consent/,
	'nor does a superuser');
# a function of a registrar's does not make a registrar of who calls it
$node->safe_psql('strict', q{CREATE FUNCTION wrapped(text, name) RETURNS uuid LANGUAGE sql SECURITY DEFINER AS 'SELECT apm_grant_access($1, $2)';
	ALTER FUNCTION wrapped OWNER TO clerk});
fails_in_session($node, 'strict', 'doctor', q{SELECT wrapped('a', 'nurse')}, '42501', qr/permission denied to enter/, 'nor through a definer function');

# --- nor to his own advantage
my $self = qr/permission denied to grant oneself access.*Rule "self" of the contract/s;
fails_in_session($node, 'strict', 'clerk', q{SELECT apm_grant_access('b', 'clerk')}, '42501', $self, 'a registrar to himself');
fails_in_session($node, 'strict', 'clerk', q{SELECT apm_grant_access('b', 'office')}, '42501', $self, 'to a group that he is in');
fails_in_session($node, 'strict', 'clerk', q{SELECT apm_grant_access('b', 'apm_registrar')}, '42501', $self, 'to all registrars');
fails_in_session($node, 'strict', 'hybrid', q{SELECT apm_grant_access('b', 'apm_clinician')}, '42501', $self, 'to all clinicians, being one');
fails_in_session($node, 'strict', 'desk', q{SET ROLE clerk; SELECT apm_grant_access('b', 'doctor')}, '42501', $self,
	'acting as a registrar, to a role that his login can become');
fails_in_session($node, 'strict', 'desk', q{SET ROLE clerk; SELECT apm_grant_access('b', 'desk')}, '42501', $self, 'to his login');
enter('strict', q{apm_revoke_access('b', 'clerk')});
in_session($node, 'strict', 'desk', q{SET ROLE clerk; SELECT apm_grant_access('c', 'nurse')});
wait_for($node, 'strict', q{SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)}, 'to others he may grant, and from himself take');

# an origin that does not look is not enough: the contract refuses the same
my $module = "$FindBin::RealBin/../modules/test_chain";
$node->safe_psql('strict', qq{CREATE FUNCTION put_consent(text, integer, integer, text, text, integer, bigint, uuid) RETURNS uuid
	AS '$module', 'test_pool_consent' LANGUAGE c});
foreach my $case ([ 'me', 2, 'self' ], [ 'another', 4, 'actor' ], [ 'another', 1, 'actor' ], [ 'another', 2, '' ])
{
	my ($grantee, $roles, $rule) = @$case;
	my $tid = $node->safe_psql('strict', "SELECT put_consent('me', $roles, 1, apid, '$grantee', 0, 0, NULL) FROM apm.ledger_patient LIMIT 1");

	wait_for($node, 'strict', "SELECT count(*) = 1 FROM apm.final_transaction WHERE tid = '$tid'", "a grant to $grantee by one with the roles $roles");
	is($node->safe_psql('strict', "SELECT rule FROM apm.refused WHERE tid = '$tid'"), $rule, 'the verdict');
}

# --- arguments; none of them is in an error or in the log
my $log = -s $node->logfile;
my @faults = (
	[ q{apm_grant_access('zzpid', 'doctor')}, 'AP009', qr/no such patient is registered/ ],
	[ q{apm_revoke_access('zzpid')}, 'AP009', qr/no such patient is registered/ ],
	[ q{apm_grant_access('a', 'zzrole')}, '42704', qr/the grantee is no role of this server/ ],
	[ q{apm_revoke_access('a', 'zzrole')}, '42704', qr/the grantee is no role of this server/ ],
	[ q{apm_grant_access('a', 'pg_monitor')}, '42704', qr/the grantee is no role of this server/ ],
	[ q{apm_grant_access('a', 'public')}, '42704', qr/the grantee is no role of this server/ ],
	[ q{apm_grant_access('a', 'doctor', purpose => 'zzpurpose')}, '22023', qr/purpose/ ],
	[ q{apm_grant_access(NULL, 'doctor')}, '22004', qr/must not be null/ ],
	[ q{apm_grant_access('a', NULL)}, '22004', qr/must not be null/ ],
	[ q{apm_revoke_access(NULL)}, '22004', qr/must not be null/ ],
	[ q{apm_revoke_access('')}, '22023', qr/must not be empty/ ],
	[ q{apm_grant_access('a', 'doctor', fields => '["zzfield"]')}, '22023', qr/must be a JSON object/ ],
	[ q{apm_grant_access('a', 'doctor', fields => '{"zz field": 1}')}, '22023', qr/has no proper name/ ],
	[ q{apm_grant_access('a', 'doctor', fields => '{"zzfield": 1.5}')}, '22023', qr/is not an integer/ ],
	[ q{apm_grant_access('a', 'doctor', fields => '{"zzfield": null}')}, '22023', qr/is not an integer/ ]);
fails_in_session($node, 'strict', 'clerk', "SELECT $_->[0]", $_->[1], $_->[2], $_->[0]) foreach @faults;
unlike(slurp_file($node->logfile, $log), qr/zz/, 'the log holds no argument');
my $tid = in_session($node, 'strict', 'clerk', q{SELECT apm_grant_access('a', 'nurse', fields => '{"form": 7}')});
wait_for($node, 'strict', "SELECT count(*) = 1 FROM apm.leaf WHERE tid = '$tid'", 'a public field that no template asks for ...');
is($node->safe_psql('strict', "SELECT rule FROM apm.refused WHERE tid = '$tid'"), 'template', '... is refused by the contract');
refused('strict', 'nurse', 'a', undef, 'and what it grants with it');

# --- what a role that is gone was granted can be taken back; somebody else may get its name
$node->safe_psql('postgres', 'CREATE ROLE temp LOGIN; GRANT apm_clinician TO temp');
enter('strict', q{apm_grant_access('a', 'temp')});
$node->safe_psql('postgres', 'DROP ROLE temp');
fails_in_session($node, 'strict', 'clerk', q{SELECT apm_grant_access('a', 'temp')}, '42704', qr/no role/, 'a role that is gone is granted nothing');
enter('strict', q{apm_revoke_access('a', 'temp')});
$node->safe_psql('postgres', 'CREATE ROLE temp LOGIN; GRANT apm_clinician TO temp');
refused('strict', 'temp', 'a', undef, 'another of its name does not inherit');

# --- a grant that is played again is nothing new
my $blocker = $node->background_psql('strict', on_error_stop => 1);
$blocker->query_safe('BEGIN; LOCK TABLE apm.pool IN SHARE MODE');
my $grant = in_session($node, 'strict', 'clerk', q{SELECT apm_grant_access('a', 'nurse')});
$node->safe_psql('strict', "CREATE TABLE kept AS SELECT tid, sealed FROM apm.queue WHERE tid = '$grant'");
$blocker->query_safe('COMMIT');
$blocker->quit;
wait_for($node, 'strict', "SELECT count(*) = 1 FROM apm.leaf WHERE tid = '$grant'", 'a grant is in a block');
reads('strict', 'nurse', 'a', undef, 'and holds');
enter('strict', q{apm_revoke_access('a', 'nurse')});
my $leaves = $node->safe_psql('strict', 'SELECT count(*) FROM apm.leaf');
$node->safe_psql('strict', q{INSERT INTO apm.queue (tid, sealed, queued_at) SELECT tid, sealed, now() FROM kept; SELECT apm_accept_rollback()});
wait_for($node, 'strict', 'SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)', 'somebody plays it again');
refused('strict', 'nurse', 'a', undef, 'the withdrawal stands');
is($node->safe_psql('strict', 'SELECT count(*) FROM apm.leaf'), $leaves + 1, 'there is no leaf but that of the refused reading');

# --- the auditor sees what was entered, by whom, and no patient
my $columns = q{SELECT attname FROM pg_attribute WHERE attrelid = 'apm.consent_log'::regclass AND attnum > 0 ORDER BY attnum};
is($node->safe_psql('strict', $columns) =~ s/\n/ /gr, 'tid at action grantee purpose until reviewed justified acting login height',
	'the log of consent names no patient');
is(in_session($node, 'strict', 'auditor', q{SELECT action, grantee, purpose, until IS NOT NULL, acting, login FROM apm.consent_log
		ORDER BY height LIMIT 5}),
	join("\n", 'grant|doctor||t|clerk|clerk', 'grant|doctor|treatment|f|clerk|clerk', 'grant|ward||f|clerk|clerk',
		'grant|relative||f|clerk|clerk', 'revoke|||f|clerk|clerk'), 'it shows who entered what');
is(in_session($node, 'strict', 'auditor', q{SELECT DISTINCT acting, login FROM apm.consent_log WHERE login = 'desk'}), 'clerk|desk',
	'acting role and login');
is(in_session($node, 'strict', 'auditor', q{SELECT count(*) = (SELECT count(*) FROM apm.consent_log WHERE at <= now()) FROM apm.consent_log}), 't', 'and when');
fails_in_session($node, 'strict', 'clerk', 'SELECT * FROM apm.consent_log', '42501', qr/permission denied/, 'nobody else sees it');

foreach my $database (qw(clinic strict))
{
	is($node->safe_psql($database, 'SELECT ok, fault FROM apm_verify()'), 't|', "$database: the ledger verifies");
}
$node->stop;
done_testing();

# Does this role's reading come to be refused?  Each try is a query of its own.
sub poll_refused
{
	my ($database, $role, $pid) = @_;
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;

	while (time() < $deadline)
	{
		my ($state, $message) = in_session_state($node, $database, $role, fetch($pid));

		return $message =~ /rule "consent"/ if $state eq 'AP001';
		return 0 if $state ne '00000';
	}
	return 0;
}
