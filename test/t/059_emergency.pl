# Breaking the glass: a clinician without a grant reads in an emergency.  The ledger has who, when
# and why; the note is for the auditor alone, and somebody else reviews.

use strict;
use warnings;

use lib 'test/perl';
use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', setup => 0, settings => { log_statement => 'none' });
$node->safe_psql('clinic', q{SELECT apm_setup(8, access => 'consent')});
$node->safe_psql('clinic', q{
	CREATE ROLE clerk LOGIN; GRANT apm_registrar TO clerk;
	CREATE ROLE doctor LOGIN; GRANT apm_clinician TO doctor;
	CREATE ROLE hybrid LOGIN; GRANT apm_registrar, apm_clinician TO hybrid;
	CREATE ROLE watchful LOGIN; GRANT apm_clinician, apm_auditor TO watchful;
	CREATE ROLE deputy LOGIN; GRANT doctor, apm_auditor TO deputy;
	CREATE ROLE shift; GRANT apm_clinician TO shift;
	CREATE ROLE locum LOGIN; GRANT shift, apm_auditor TO locum;
	CREATE ROLE pool LOGIN NOINHERIT; GRANT locum TO pool;
	CREATE ROLE chief LOGIN; GRANT apm_admin TO chief;
	CREATE ROLE auditor LOGIN; GRANT apm_auditor TO auditor;
	CREATE ROLE relative LOGIN;
	GRANT EXECUTE ON FUNCTION apm_break_glass(text, text, text, jsonb) TO relative});
as('clerk', q{SELECT apm_register_patient(pid, '{"Firstname": "Amina"}') FROM unnest('{a,b,c}'::text[]) AS pid});
as('doctor', q{INSERT INTO apm.patient_record (pid, record) SELECT pid, jsonb_build_object('of', pid) FROM unnest('{a,b,c}'::text[]) AS pid});
wait_for($node, 'clinic', q{SELECT count(*) = 3 FROM apm.ledger_record}, 'the records are there');

sub as
{
	my ($role, $sql) = @_;
	return in_session($node, 'clinic', $role, $sql);
}

sub fails_as
{
	my ($role, $sql, $state, $pattern, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return fails_in_session($node, 'clinic', $role, $sql, $state, $pattern, $name);
}

sub superuser
{
	return $node->safe_psql('clinic', $_[0]);
}

# Waits until a transaction is in a block; the rule that refused it there, or nothing.
sub rule_of
{
	my ($tid) = @_;

	poll($node, 'clinic', "SELECT count(*) = 1 FROM apm.leaf WHERE tid = '$tid'") or die "not in a block: $tid";
	return '' if superuser("SELECT rule FROM apm.leaf WHERE tid = '$tid'") eq '0';
	poll($node, 'clinic', "SELECT count(*) = 1 FROM apm.refused WHERE tid = '$tid'") or die "not in apm.refused: $tid";
	return superuser("SELECT rule FROM apm.refused WHERE tid = '$tid'");
}

my $queries = q{SELECT count(*) FROM apm.ledger_query};
my $unreviewed = q{SELECT tid FROM apm.break_glass_review ORDER BY height};
my $note = q{patient unconscious, brought in by ambulance; Übergabe um 3 Uhr};

sub newest_emergency
{
	return superuser('SELECT tid FROM apm.ledger_query WHERE scope = 6 AND rule = 0 ORDER BY height DESC, position DESC LIMIT 1');
}

# --- read, and what is left of it
fails_as('doctor', q{SELECT * FROM apm_fetch('a')}, 'AP001', qr/rule "consent"/, 'without a grant the doctor does not read');
is(as('doctor', qq{SELECT record->>'of', flags FROM apm_break_glass('a', 'unconscious', '$note')}), 'a|{}', 'in an emergency he does');
my $first = newest_emergency();
is(as($_, q{SELECT acting, login, reason, asked_at <= now(), height > 0 FROM apm.break_glass_review}), 'doctor|doctor|unconscious|t|t',
	"$_ sees who did, and why") foreach qw(auditor chief);
is(as('auditor', 'BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY; ' . $unreviewed . '; COMMIT'), $first, 'in whatever transaction');
fails_as('doctor', $unreviewed, '42501', qr/permission denied/, 'others do not');
fails_as('doctor', q{SELECT * FROM apm_fetch('a')}, 'AP001', qr/rule "consent"/, 'the next reading is one without a grant again');
as('doctor', q{BEGIN; SELECT * FROM apm_break_glass('b', 'other-emergency'); ROLLBACK});
my $second = newest_emergency();
is(as('auditor', $unreviewed), "$first\n$second", 'rolled back, it is listed all the same');

# --- what is no emergency
my $before = superuser($queries);
fails_as('doctor', q{SELECT * FROM apm_break_glass('a', 'curiosity')}, '22023', qr/reason/, 'the reason must be on the list');
fails_as('doctor', q{SELECT * FROM apm_break_glass('a', NULL)}, '22004', qr/must not be null/, 'there must be one');
fails_as('doctor', q{SELECT * FROM apm_break_glass(NULL, 'unconscious')}, '22004', qr/must not be null/, 'and a patient');
fails_as('doctor', q{SELECT * FROM apm_break_glass('a', 'unconscious', repeat('ü', 2049))}, '54000', qr/note is longer than 4096 bytes/, 'a note has bounds');
is(superuser($queries), $before, 'nothing was asked for');
fails_as('clerk', q{SELECT * FROM apm_break_glass('a', 'unconscious')}, '42501', qr/permission denied for function/, 'a registrar has no emergencies');
fails_as($_, q{SELECT * FROM apm_break_glass('a', 'unconscious', 'zznote')}, 'AP001', qr/query refused by the contract: rule "\w+"/, "$_: nor who is no clinician, or a registrar too")
  foreach qw(relative hybrid);
fails_as('doctor', q{SELECT * FROM apm_break_glass('nobody', 'unconscious', 'zznote')}, 'AP001', qr/rule "patient"/, 'of an unknown patient the contract speaks');
is(superuser($queries), $before + 3, 'these are in the ledger');
is(as('auditor', $unreviewed), "$first\n$second", 'and there is nothing to review in them');
is(superuser(q{SELECT count(DISTINCT octet_length(sealed)) FROM apm.note}), 1, 'the note about nobody looks like the others');

# --- the note
is(as('doctor', qq{SELECT count(*) FROM apm_break_glass('c', 'disaster', repeat('ü', 2048))}), 1, 'a note of 4096 bytes');
my $third = newest_emergency();
my $history = q{SELECT count(*) FROM apm.ledger_query WHERE scope = 7 AND rule = 0};
is(as('auditor', "SELECT apm_break_glass_note('$first')"), $note, 'the auditor reads the note');
is(superuser($history), 1, 'and that is in the ledger');
is(as('auditor', "SELECT apm_break_glass_note('$third') = repeat('ü', 2048)"), 't', 'a long one too');
is(as('auditor', "SELECT apm_break_glass_note('$second') IS NULL"), 't', 'where nothing was written there is none');
fails_as($_, "SELECT apm_break_glass_note('$first')", '42501', qr/permission denied for function/, "$_ does not read it")
  foreach qw(doctor chief clerk relative);
fails_with($node, 'clinic', "SELECT apm_break_glass_note('$first')", 'AP001', qr/rule "actor"|rule "consent"/, 'nor does a superuser');
my $refused = superuser(q{SELECT tid FROM apm.ledger_query WHERE scope = 6 AND rule <> 0 LIMIT 1});
my $read = superuser(q{SELECT tid FROM apm.ledger_query WHERE scope = 1 LIMIT 1});
foreach my $tid ($refused, $read, '00000000-0000-7000-8000-000000000000')
{
	fails_as('auditor', "SELECT apm_break_glass_note('$tid')", '22023', qr/is no emergency/, 'there is no note of what is no emergency');
	fails_as('auditor', "SELECT apm_review_break_glass('$tid', true)", '22023', qr/is no emergency/, 'and nothing to review');
}
is(superuser(q{SELECT count(*) FROM apm.note WHERE position('ambulance'::bytea IN sealed) > 0}), 0, 'in the table it is sealed');

superuser('CREATE TABLE kept AS TABLE apm.note');
sub found
{
	my ($alter, $pattern, $name, $state) = @_;

	superuser($alter);
	fails_as('auditor', "SELECT apm_break_glass_note('$first')", $state // 'AP005', $pattern, $name);
	superuser('TRUNCATE apm.note; INSERT INTO apm.note TABLE kept');
	return is(as('auditor', "SELECT apm_break_glass_note('$first')"), $note, "$name: put back, it is read");
}
found("UPDATE apm.note SET sealed = set_byte(sealed, $_, get_byte(sealed, $_) # 1) WHERE tid = '$first'", qr/note does not match the ledger.*altered/s,
	"a bit flipped at $_") foreach (0, 9, 60, 200);
found("UPDATE apm.note SET sealed = sealed || '\\x00' WHERE tid = '$first'", qr/altered/, 'a byte more');
found("UPDATE apm.note AS n SET sealed = k.sealed FROM kept AS k WHERE n.tid = '$first' AND k.tid = '$third'", qr/altered/, q{another's note});
found("DELETE FROM apm.note WHERE tid = '$first'", qr/missing/, 'a note that is gone');

# --- the review
fails_as('watchful', 'SELECT count(*) FROM apm_fetch(\'b\')', 'AP001', qr/rule "consent"/, 'somebody is clinician and auditor');
as('watchful', q{SELECT * FROM apm_break_glass('b', 'life-threatening')});
my $fourth = newest_emergency();
my $self = qr/permission denied to review one's own emergency.*Rule "self" of the contract/s;
fails_as('watchful', "SELECT apm_review_break_glass('$fourth', true)", '42501', $self, 'nobody reviews himself');
fails_as('deputy', "SELECT apm_review_break_glass('$first', true)", '42501', $self, 'nor one whose role he has');
fails_as($_, "SELECT apm_review_break_glass('$first', true)", '42501', qr/permission denied for function/, "$_ reviews nothing")
  foreach qw(doctor clerk relative);
fails_with($node, 'clinic', "SELECT apm_review_break_glass('$first', true)", '42501', qr/permission denied to review an emergency/, 'nor does a superuser');
as('locum', q{SET ROLE shift; SELECT count(*) FROM apm_break_glass('b', 'disaster')});
my $shifted = newest_emergency();
superuser('REVOKE shift FROM locum');
fails_as('locum', "SELECT apm_review_break_glass('$shifted', true)", '42501', $self, 'nor one that he caused as a role that he no longer has');
fails_as('pool', "SET ROLE locum; SELECT apm_review_break_glass('$shifted', true)", '42501', $self, 'by whatever login');
is(rule_of(as('auditor', "SELECT apm_review_break_glass('$shifted', true)")), '', 'somebody else does');
as('auditor', "BEGIN; SELECT apm_review_break_glass('$first', true); ROLLBACK");
is(rule_of(as('auditor', "SELECT apm_review_break_glass('$first', true)")), '', 'the auditor reviews');
is(rule_of(as('chief', "SELECT apm_review_break_glass('$second', false)")), '', 'so does the administrator');
is(rule_of(as('watchful', "SELECT apm_review_break_glass('$third', true)")), '', q{a clinician who is auditor reviews another's});
is(as('auditor', $unreviewed), $fourth, 'what is reviewed is no longer listed');
fails_as('chief', "SELECT apm_review_break_glass('$first', false)", '55000', qr/has been reviewed already/, 'a finding is the last one');
fails_as('auditor', $_, '22004', qr/must not be null/, $_) foreach (q{SELECT apm_review_break_glass(NULL, true)}, "SELECT apm_review_break_glass('$fourth', NULL)");
is(as('auditor', q{SELECT action, reviewed, justified, grantee, acting FROM apm.consent_log WHERE action = 'review' ORDER BY height}),
	join("\n", "review|$shifted|t||auditor", "review|$first|t||auditor", "review|$second|f||chief", "review|$third|t||watchful"), 'findings are in the log of consent');

# two at once: the contract takes the first
my $blocker = $node->background_psql('clinic', on_error_stop => 1);
$blocker->query_safe('BEGIN; LOCK TABLE apm.verdict IN SHARE MODE');
my @both = (as('auditor', "SELECT apm_review_break_glass('$fourth', false)"), as('chief', "SELECT apm_review_break_glass('$fourth', true)"));
$blocker->query_safe('COMMIT');
$blocker->quit;
is(join(',', map { rule_of($_) } @both), ',basis', 'of two findings at once the first counts');
is(as('auditor', q{SELECT count(*) FROM apm.break_glass_review}), 0, 'nothing is left to review');

# --- a patient who withdrew
my $withdrawn = as('clerk', q{SELECT apm_revoke_access('a')});
is(rule_of($withdrawn), '', 'a patient withdraws');
fails_as('doctor', q{SELECT * FROM apm_break_glass('a', 'unconscious')}, 'AP001', qr/rule "consent"/, 'and is let be, in emergencies too');
is(rule_of(as('clerk', q{SELECT apm_revoke_access('b', 'doctor')})), '', 'another takes access from one doctor');
is(as('doctor', q{SELECT count(*) FROM apm_break_glass('b', 'unconscious')}), 1, 'that is no withdrawal');
is(rule_of(as('clerk', q{SELECT apm_revoke_access('b', purpose => 'emergency')})), '', 'he withdraws for emergencies');
fails_as('doctor', q{SELECT * FROM apm_break_glass('b', 'unconscious')}, 'AP001', qr/rule "consent"/, 'and is let be');

# --- policies, reasons and templates that change
is(rule_of(as('chief', q{SELECT apm_set_policy('emergency', 'always')})), '', 'policy: emergencies of everybody');
is(as('doctor', q{SELECT count(*) FROM apm_break_glass('a', 'unconscious')}), 1, 'what the patient said does not count then');
is(rule_of(as('chief', q{SELECT apm_set_policy('emergency', 'none')})), '', 'policy: no emergencies');
fails_as('doctor', q{SELECT * FROM apm_break_glass('c', 'unconscious')}, 'AP001', qr/rule "emergency"/, 'there are none then');
is(rule_of(as('chief', q{SELECT apm_set_policy('emergency', 'unless_withdrawn')})), '', 'policy: as before');
is(rule_of(as('chief', q{SELECT apm_set_policy('query_rate', '1')})), '', 'policy: one query an hour');
fails_as('doctor', q{SELECT * FROM apm_fetch('c')}, 'AP001', qr/rule "consent"|rule "rate"/, 'that was it');
is(as('doctor', q{SELECT count(*) FROM apm_break_glass('c', 'unconscious')}), 1, 'emergencies do not wait');
is(rule_of(as('chief', q{SELECT apm_set_policy('query_rate', '0')})), '', 'policy: as before');
is(rule_of(as('chief', q{SELECT apm_add_reason('earthquake')})), '', 'a new reason');
is(as('doctor', q{SELECT count(*) FROM apm_break_glass('c', 'earthquake')}), 1, 'can be given');
is(as('auditor', q{SELECT reason FROM apm.break_glass_review ORDER BY height DESC LIMIT 1}), 'earthquake', 'and is shown');

# public fields that templates ask for, of emergencies, notes and reviews as of everything else
is(rule_of(as('chief', q{SELECT apm_add_template('ward', 'query', '{"ward": {"type": "integer", "least": 1, "most": 9}}')})), '', 'a template for queries');
is(rule_of(as('chief', q{SELECT apm_add_template('form', 'consent', '{"form": {"type": "code", "codes": ["A", "B"]}}')})), '', 'one for consents');
fails_as('doctor', q{SELECT * FROM apm_break_glass('c', 'unconscious', NULL, '{"ward": 10}')}, 'AP001', qr/rule "template"/, 'a ward that there is not');
is(as('doctor', q{SELECT count(*) FROM apm_break_glass('c', 'unconscious', 'again', '{"ward": 3}')}), 1, 'an emergency with its ward');
my $fifth = newest_emergency();
fails_as('auditor', qq{SELECT apm_break_glass_note('$fifth', '{"floor": 1}')}, 'AP001', qr/rule "template"/, 'a field that no template has');
is(as('auditor', qq{SELECT apm_break_glass_note('$fifth', '{"ward": 9}')}), 'again', 'a note that is read for a ward');
is(rule_of(as('auditor', qq{SELECT apm_review_break_glass('$fifth', true, '{"form": "C"}')})), 'template', 'a form that there is not');
is(rule_of(as('auditor', qq{SELECT apm_review_break_glass('$fifth', true, '{"form": "B"}')})), '', 'a review with its form');

unlike(slurp_file($node->logfile), qr/zznote|ambulance/, 'the log holds no note');
is(superuser('SELECT ok, fault FROM apm_verify()'), 't|', 'the ledger verifies');
$node->stop;
done_testing();
