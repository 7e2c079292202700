-- What logins are begun and finished with, so that any gateway can finish what another one has begun. It opens nothing
-- without a login's state, of which only the digest is kept.
ALTER TABLE fleet ADD COLUMN login_secret text;
