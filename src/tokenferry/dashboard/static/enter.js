// The code lies behind the #, which no server and no log sees. It is sent once, and leaves the address before that.
'use strict';
const form = document.getElementById('enter');
const [code, following] = location.hash.slice(1).split('&');
if (code) {
  history.replaceState(null, '', location.pathname);
  form.elements.code.value = code;
  form.elements.following.value = following || '';
  form.requestSubmit();
}
