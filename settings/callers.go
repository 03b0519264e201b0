package settings

import "fmt"

// checkAuth returns what is wrong with the settings that say who may call.
func (s *Settings) checkAuth(onCloudRun bool) (problems []error) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	needed := []struct{ name, what string }{
		{"AUDIENCE", "the audience that Pub/Sub and Cloud Scheduler are told to put into their tokens, as https://tidemark-abc123-uc.a.run.app"},
		{"PUSH_CALLERS", "the service account of the push subscription"},
		{"FLUSH_CALLERS", "the service account of the scheduler's job"},
	}
	if s.Auth == "none" {
		if onCloudRun {
			problem("AUTH=none on Cloud Run (K_SERVICE is set) would let anyone on the internet write")
		}
		for _, name := range []string{"PUSH_CALLERS", "FLUSH_CALLERS", "VIEW_CALLERS"} { // else the server would look protected
			if s.texts[name] != "" {
				problem("%s=%q: AUTH=none checks no callers; set AUTH=oidc, or leave %s out", name, s.texts[name], name)
			}
		}
		return problems
	}
	if s.Auth == "iam" && !onCloudRun {
		problem("AUTH=iam trusts that Cloud Run has checked each token, and this is not Cloud Run (K_SERVICE is not set): set AUTH=oidc")
	}
	for _, setting := range needed {
		if s.texts[setting.name] == "" {
			problem("AUTH=%s needs %s: %s", s.Auth, setting.name, setting.what)
		}
	}
	return problems
}
