#!/usr/bin/perl
# Runs files of checks for distributest: each line is `name: shell command`, and the command's exit status decides.
# What it says and hears is described in proto/worker.md.
use strict;
use warnings;
use IO::Handle;
use JSON::PP;
use Time::HiRes 'time';

open(my $agent, '+<&=', delete $ENV{DISTRIBUTEST_FD}) or die "no agent: $!";   # closed on exec, as Perl does above $^F
$agent->autoflush(1);
my $json = JSON::PP->new->utf8->canonical;
sub tell_agent { print {$agent} $json->encode({@_}), "\n" }

sub run_check {
    my ($file, $line, $name, $command) = @_;
    my $start = time;
    utf8::encode($command);
    my $status = system('sh', '-c', $command);
    my %result = $status == 0 ? (status => 'passed') : (status => 'failed', message => 'exit status ' . ($status >> 8));
    tell_agent(type => 'test', id => $name, name => $name, seconds => time - $start, file => $file, line => $line + 0, %result);
    return $status == 0;
}

tell_agent(type => 'ready', protocol => 1, framework => 'checks', version => '1');
while (defined(my $message = <$agent>)) {
    my $order = $json->decode($message);
    last if $order->{type} eq 'quit';
    my ($file, @missing) = $order->{file};
    my %wanted = map { $_ => 1 } @{ $order->{tests} // [] };
    my $all = !%wanted;
    unless (open(my $checks, '<:encoding(UTF-8)', $file)) {
        tell_agent(type => 'finished', outcome => 'broken', message => "can't open $file: $!");
    } else {
        my $outcome = 'passed';
        while (my $check = <$checks>) {
            my ($name, $command) = $check =~ /^\s*([^#:][^:]*):\s*(.+)/ or next;
            next unless $all || delete $wanted{$name};
            run_check($file, $., $name, $command) or $outcome = 'failed';
        }
        @missing = sort keys %wanted;
        tell_agent(type => 'finished', outcome => @missing ? 'failed' : $outcome, message => @missing ? "no check is called @missing" : '');
    }
}
